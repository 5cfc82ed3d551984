"""The block storage API v3."""

from kevel.api.volume.operations import API

__all__ = ["API"]
