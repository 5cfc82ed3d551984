"""Kevel's own API, /kevel/v1: attachments that explain themselves."""

from kevel.api.kevel.operations import API

__all__ = ["API"]
