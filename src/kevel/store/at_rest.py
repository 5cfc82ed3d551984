"""Does anybody write a volume just now? What a copy of its file has to know before it begins and after it has ended.

Nothing keeps a volume from being attached while it is copied: a copy takes minutes, and an attach is never refused for
it. So the copy looks. It writes down who may reach the volume when it begins (a stamp), and it counts only if that is
the same when it has ended; else somebody may have written in its middle, and it is made anew, in whichever way is
right by then. A volume's generation grows with each path, and a server's goal revision with each start: whoever came
and went meanwhile is seen, too.
"""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import bindparam, select

from kevel.domain.ladder import Hands, Rung
from kevel.domain.model import ServerGoal, ServerRung
from kevel.store.schema.attachments import paths
from kevel.store.schema.base import LIVE
from kevel.store.schema.servers import server_actions, servers
from kevel.store.schema.volumes import volumes
from kevel.store.transactions import Tx

#: With these goals a server that does not run is not started, once the action for them is done.
_STOPPED: Final = (ServerGoal.STOPPED, ServerGoal.SHELVED)
_GENERATION: Final = select(volumes.c.generation).where(volumes.c.id == bindparam("of_volume"))
_PATHS: Final = (
    select(
        paths.c.id,
        paths.c.revision,
        paths.c.generation,
        paths.c.rung,
        paths.c.hands,
        paths.c.server_id,
        paths.c.agent,
        paths.c.host,
        servers.c.goal,
        servers.c.goal_revision,
        servers.c.rung.label("server_rung"),
        servers.c.fault,
        servers.c.boot,
    )
    .select_from(paths.outerjoin(servers, servers.c.id == paths.c.server_id))
    .where(paths.c.volume_id == bindparam("of_volume"), paths.c.live == LIVE)
    .order_by(paths.c.id)
)
_STOPPING: Final = select(server_actions.c.id).where(
    server_actions.c.subject_id == bindparam("of_server"),
    server_actions.c.action.in_(("stop", "shelve")),
    server_actions.c.finished_at.is_(None),
)


class LivePath(msgspec.Struct, frozen=True, kw_only=True):
    """The path by which a running guest has the volume."""

    path_id: str
    generation: int
    host: str
    server_id: str


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """Who may write a volume."""

    #: Nobody can: its file may be read as it stands.
    at_rest: bool
    #: Changes with everybody who comes or goes.
    stamp: str
    #: The running guests that have it.
    live: tuple[LivePath, ...] = ()
    #: Hosts that are neither Kevel's guests nor at rest have it: nothing is known of what they write.
    foreign: bool = False


def look_at_rest(tx: Tx, volume_id: str) -> Rest:
    """Who may write the volume now, as far as the records go: an effect can exist one rung above its record."""
    generation = tx.execute(_GENERATION, {"of_volume": volume_id}).scalar()
    marks = [str(generation)]
    live: list[LivePath] = []
    at_rest, foreign = True, False
    for row in tx.execute(_PATHS, {"of_volume": volume_id}):
        marks.append(f"{row.id}/{row.revision}/{row.goal_revision}/{row.boot}")
        if row.rung < Rung.EXPORTED or (row.rung == Rung.EXPORTED and row.hands is Hands.CONTROL and row.agent):
            continue
        if row.agent is None:
            at_rest, foreign = False, True
        elif row.goal in _STOPPED and row.server_rung <= ServerRung.DEFINED:
            at_rest = at_rest and not tx.execute(_STOPPING, {"of_server": row.server_id})
        elif row.goal is ServerGoal.SUSPENDED and row.server_rung is ServerRung.SUSPENDED and row.fault is None:
            continue  # with a fault, a resumption that failed may have begun
        else:
            at_rest = False
            if row.rung == Rung.PLUGGED and row.server_rung.has_process:
                found = LivePath(path_id=row.id, generation=row.generation, host=row.host, server_id=row.server_id)
                live.append(found)
    return Rest(at_rest=at_rest, stamp=" ".join(marks), live=tuple(live), foreign=foreign)
