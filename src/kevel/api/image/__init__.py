"""The image API v2."""

from kevel.api.image.operations import API

__all__ = ["API"]
