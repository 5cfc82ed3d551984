"""Identity v3: tokens, users, projects, roles, application credentials and the catalog."""

from kevel.api.identity.operations import API

__all__ = ["API"]
