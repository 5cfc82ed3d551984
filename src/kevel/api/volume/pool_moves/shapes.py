"""The JSON bodies of retypes and moves."""

from __future__ import annotations

from typing import Literal

import msgspec

from kevel.api.volume.bodies import Bool, Text


class NewType(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A type by id or name, and whether the volume may move to get it."""

    new_type: Text
    migration_policy: Literal["never", "on-demand"] | None = None


class Retype(msgspec.Struct, frozen=True, kw_only=True):
    """os-retype."""

    retype: NewType = msgspec.field(name="os-retype")


class NewHost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pool to move to, as `host@backend#pool`. The flags change nothing: Kevel always copies, and always locks."""

    host: Text
    force_host_copy: Bool | None = None
    lock_volume: Bool | None = None


class Migrate(msgspec.Struct, frozen=True, kw_only=True):
    """os-migrate_volume until 3.15."""

    migrate: NewHost = msgspec.field(name="os-migrate_volume")


class NewHostOrCluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same, or a cluster."""

    host: Text | None = None
    cluster: Text | None = None
    force_host_copy: Bool | None = None
    lock_volume: Bool | None = None


class MigrateV316(msgspec.Struct, frozen=True, kw_only=True):
    """os-migrate_volume from 3.16."""

    migrate: NewHostOrCluster = msgspec.field(name="os-migrate_volume")
