"""The rows of retypes and moves."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.operations import Policy, Version
from kevel.api.volume.pool_moves import handlers, shapes
from kevel.api.volume.rows import act

_migrate = partial(
    act,
    needs_space=True,
    action="os-migrate_volume",
    handler=handlers.migrate_volume,
    policy=Policy.ADMIN,
    errors=(400, 404, 413),
)

POOL_MOVES: Final = (
    act(
        name="retypeVolume",
        needs_space=True,
        action="os-retype",
        handler=handlers.retype_volume,
        body=shapes.Retype,
        errors=(400, 404, 413, 503),
    ),
    _migrate(name="migrateVolumeToHost", body=shapes.Migrate, until=Version(3, 15)),
    _migrate(name="migrateVolume", body=shapes.MigrateV316, since=Version(3, 16)),
)
