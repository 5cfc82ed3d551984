"""Actions that give volumes other types and move them: words in, a use case, words out."""

from __future__ import annotations

from kevel.api.operations import Call, Reply
from kevel.api.volume.values import read_bool
from kevel.domain.errors import Invalid


async def retype_volume(call: Call) -> Reply:
    """Give a volume another type, if need be in another pool."""
    wanted = call.body.retype
    may_move = wanted.migration_policy == "on-demand"
    await call.services.pool_moves.retype(call.actor, call.path["volume_id"], wanted.new_type, may_move=may_move)
    return Reply()


async def migrate_volume(call: Call) -> Reply:
    """Move a volume to another pool."""
    wanted, volume_id = call.body.migrate, call.path["volume_id"]
    await call.services.volumes.get(call.actor, volume_id)  # what is not there is not found, whatever the words are
    for name in ("force_host_copy", "lock_volume"):
        value = getattr(wanted, name)
        if value is not None:
            read_bool(value, name)
    cluster = getattr(wanted, "cluster", None)
    if (wanted.host is None) == (cluster is None):
        raise Invalid("Invalid input for os-migrate_volume: it has to have either host or cluster.")
    if cluster is not None:
        raise Invalid(f"Invalid host: No available service named {cluster}; there are no clusters.")
    await call.services.pool_moves.migrate(call.actor, volume_id, wanted.host)
    return Reply()
