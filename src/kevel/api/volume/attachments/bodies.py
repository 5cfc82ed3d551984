"""The JSON bodies of the attachments API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Uuid = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$")]
Mode = Literal["ro", "rw"]


class NewFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An attachment as it is asked for. An empty connector only reserves, as the command line does."""

    volume_uuid: Uuid
    instance_uuid: Uuid | None = None
    connector: dict[str, Any] | None = None


class NewModedFields(NewFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same with a mode (from 3.54)."""

    mode: Mode | None = None


class CreateAttachment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /attachments until 3.53."""

    attachment: NewFields


class CreateModedAttachment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /attachments from 3.54."""

    attachment: NewModedFields


class NewConnector(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By what the consumer connects."""

    connector: Annotated[dict[str, Any], msgspec.Meta(min_length=1)]


class UpdateAttachment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /attachments/{id}."""

    attachment: NewConnector
