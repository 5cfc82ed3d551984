"""The JSON bodies of the old flow's actions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from kevel.api.volume.attachments.bodies import Uuid
from kevel.api.volume.bodies import Text


class Use(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who uses the volume: an instance or a host, and how."""

    mountpoint: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    instance_uuid: Uuid | None = None
    host_name: Text | None = None
    mode: Literal["ro", "rw"] | None = None


class Attach(msgspec.Struct, frozen=True, kw_only=True):
    """os-attach."""

    use: Use = msgspec.field(name="os-attach")


class WhichAttachment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of several."""

    attachment_id: Uuid | None = None


class Detach(msgspec.Struct, frozen=True, kw_only=True):
    """os-detach."""

    which: WhichAttachment | None = msgspec.field(name="os-detach")


class WhichForced(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of several. The connector is the attachment's own, whatever is given."""

    attachment_id: Text | None = None
    connector: dict[str, Any] | str | None = None


class ForceDetach(msgspec.Struct, frozen=True, kw_only=True):
    """os-force_detach."""

    which: WhichForced = msgspec.field(name="os-force_detach")


class WithConnector(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By what the consumer connects."""

    connector: dict[str, Any]


class Initialize(msgspec.Struct, frozen=True, kw_only=True):
    """os-initialize_connection."""

    wanted: WithConnector = msgspec.field(name="os-initialize_connection")


class PerhapsConnector(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The connector of the consumer to shut out."""

    connector: dict[str, Any] | str | None


class Terminate(msgspec.Struct, frozen=True, kw_only=True):
    """os-terminate_connection."""

    wanted: PerhapsConnector = msgspec.field(name="os-terminate_connection")
