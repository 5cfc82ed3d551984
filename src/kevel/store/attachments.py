"""Reading attachments, paths and claims."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import msgspec
from sqlalchemy import and_, bindparam, or_, select

from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.model import Attachment, Path, ServerGoal
from kevel.store.schema.attachments import attachments, paths
from kevel.store.schema.base import LIVE
from kevel.store.schema.servers import servers
from kevel.store.transactions import Tx, as_struct, row_columns

ATTACHMENT_COLUMNS = row_columns(attachments, Attachment)
PATH_COLUMNS = row_columns(paths, Path)


class AttachmentView(msgspec.Struct, frozen=True, kw_only=True):
    """An attachment with its unreleased paths."""

    attachment: Attachment
    paths: tuple[Path, ...]

    @property
    def path(self) -> Path | None:
        """The one path that normal attachments have; None once it is released, and while the server has no host."""
        return self.paths[0] if self.paths else None


_ATTACHMENT = select(*ATTACHMENT_COLUMNS).where(attachments.c.id == bindparam("of_id"))
_PATH = select(*PATH_COLUMNS).where(paths.c.id == bindparam("of_id"))
_LIVE_PATHS_OF = select(*PATH_COLUMNS).where(paths.c.attachment_id == bindparam("of_id"), paths.c.live == LIVE)
_LIVE_PATHS_OF_SERVER = select(*PATH_COLUMNS).where(paths.c.server_id == bindparam("of_server"), paths.c.live == LIVE)
_OPEN = select(*ATTACHMENT_COLUMNS).where(attachments.c.live == LIVE)
_OPEN = _OPEN.order_by(attachments.c.created_at, attachments.c.unit)
#: What stands aside is no disk of the server's.
_OF_DISKS = _OPEN.where(attachments.c.aside.is_(False))
_OPEN_OF_PAIR = _OF_DISKS.where(
    attachments.c.server_id == bindparam("of_server"), attachments.c.volume_id == bindparam("of_volume")
)
_OPEN_OF_SERVER = _OF_DISKS.where(attachments.c.server_id == bindparam("of_server"))
_HOLDS_OF_SERVER = _OPEN.where(attachments.c.server_id == bindparam("of_server"))
_OPEN_OF_VOLUME = _OPEN.where(attachments.c.volume_id == bindparam("of_volume"))
_OPEN_OF_VOLUMES = _OPEN.where(attachments.c.volume_id.in_(bindparam("of_volumes", expanding=True)))
_OPEN_OF_SERVERS = _OF_DISKS.where(attachments.c.server_id.in_(bindparam("of_servers", expanding=True)))
_PATHS_OF = select(*PATH_COLUMNS).where(
    paths.c.attachment_id.in_(bindparam("of_attachments", expanding=True)), paths.c.live == LIVE
)
_REACHED = select(paths.c.id).where(
    paths.c.attachment_id == attachments.c.id, paths.c.rung == Rung.PLUGGED, attachments.c.goal == Goal.ATTACHED
)
#: A client takes the time that it takes; the storage has a deadline.
_UNDER_WAY = select(paths.c.id).where(
    paths.c.attachment_id == attachments.c.id,
    paths.c.live == LIVE,
    or_(paths.c.dropped.is_(True), paths.c.rung < Rung.EXPORTED),
)
_SETTLED = and_(attachments.c.stage.is_not(None), attachments.c.goal == Goal.ATTACHED, ~_UNDER_WAY.exists())
#: A server that is shelved keeps its volumes, and leaves its host without a deadline.
_SHELVED = select(servers.c.id).where(
    servers.c.id == attachments.c.server_id,
    servers.c.goal == ServerGoal.OFFLOADED,
    attachments.c.goal == Goal.ATTACHED,
)
_OVERDUE = _OPEN.where(
    attachments.c.deadline_at < bindparam("before"), ~_REACHED.exists(), ~_SETTLED, ~_SHELVED.exists()
)
_OVERDUE = _OVERDUE.limit(bindparam("rows_max"))
_EXPIRED = _OVERDUE.where(attachments.c.reason.is_(None))

#: SQL variables in one statement; larger collections are read in several.
_IDS_MAX = 500


def load_attachment(tx: Tx, attachment_id: str) -> Attachment | None:
    """The attachment, closed ones included."""
    row = tx.execute(_ATTACHMENT, {"of_id": attachment_id}).first()
    return None if row is None else as_struct(Attachment, row)


def load_path(tx: Tx, path_id: str) -> Path | None:
    """The path, released ones included."""
    row = tx.execute(_PATH, {"of_id": path_id}).first()
    return None if row is None else as_struct(Path, row)


def live_paths(tx: Tx, attachment_id: str) -> tuple[Path, ...]:
    """The attachment's unreleased paths."""
    return tuple(as_struct(Path, row) for row in tx.execute(_LIVE_PATHS_OF, {"of_id": attachment_id}))


def paths_of_server(tx: Tx, server_id: str) -> list[Path]:
    """The unreleased paths of the server's attachments."""
    return [as_struct(Path, row) for row in tx.execute(_LIVE_PATHS_OF_SERVER, {"of_server": server_id})]


def find_open(tx: Tx, *, server_id: str, volume_id: str) -> Attachment | None:
    """The open attachment of that volume in that server."""
    row = tx.execute(_OPEN_OF_PAIR, {"of_server": server_id, "of_volume": volume_id}).first()
    return None if row is None else as_struct(Attachment, row)


def open_of_server(tx: Tx, server_id: str) -> list[Attachment]:
    """The server's open attachments, oldest first."""
    return [as_struct(Attachment, row) for row in tx.execute(_OPEN_OF_SERVER, {"of_server": server_id})]


def holds_of_server(tx: Tx, server_id: str) -> list[Attachment]:
    """The same, with those that stand aside: everything that keeps a volume for the server."""
    return [as_struct(Attachment, row) for row in tx.execute(_HOLDS_OF_SERVER, {"of_server": server_id})]


def all_of_server(tx: Tx, server_id: str) -> list[Attachment]:
    """Every attachment that the server has had, oldest first."""
    statement = select(*ATTACHMENT_COLUMNS).where(attachments.c.server_id == server_id)
    return [as_struct(Attachment, row) for row in tx.execute(statement.order_by(attachments.c.created_at))]


def open_of_volume(tx: Tx, volume_id: str) -> list[AttachmentView]:
    """The volume's open attachments with their paths, oldest first."""
    found = [as_struct(Attachment, row) for row in tx.execute(_OPEN_OF_VOLUME, {"of_volume": volume_id})]
    return [AttachmentView(attachment=one, paths=live_paths(tx, one.id)) for one in found]


def _chunks(ids: Collection[str]) -> list[Sequence[str]]:
    ordered = list(ids)
    return [ordered[at : at + _IDS_MAX] for at in range(0, len(ordered), _IDS_MAX)]


def with_paths(tx: Tx, found: Sequence[Attachment]) -> list[AttachmentView]:
    """The attachments with their unreleased paths, in the same order."""
    by_attachment: dict[str, list[Path]] = defaultdict(list)
    for chunk in _chunks([one.id for one in found]):
        for row in tx.execute(_PATHS_OF, {"of_attachments": chunk}):
            path = as_struct(Path, row)
            by_attachment[path.attachment_id].append(path)
    return [AttachmentView(attachment=one, paths=tuple(by_attachment[one.id])) for one in found]


def open_of_volumes(tx: Tx, volume_ids: Collection[str]) -> dict[str, list[AttachmentView]]:
    """The open attachments of many volumes, by volume id."""
    found: list[Attachment] = []
    for chunk in _chunks(volume_ids):
        found += [as_struct(Attachment, row) for row in tx.execute(_OPEN_OF_VOLUMES, {"of_volumes": chunk})]
    grouped: dict[str, list[AttachmentView]] = defaultdict(list)
    for view in with_paths(tx, found):
        grouped[view.attachment.volume_id].append(view)
    return grouped


def open_of_servers(tx: Tx, server_ids: Collection[str]) -> dict[str, list[AttachmentView]]:
    """The open attachments of many servers, by server id."""
    found: list[Attachment] = []
    for chunk in _chunks(server_ids):
        found += [as_struct(Attachment, row) for row in tx.execute(_OPEN_OF_SERVERS, {"of_servers": chunk})]
    grouped: dict[str, list[AttachmentView]] = defaultdict(list)
    for view in with_paths(tx, found):
        if view.attachment.server_id is not None:
            grouped[view.attachment.server_id].append(view)
    return grouped


def paths_in_control(tx: Tx) -> list[str]:
    """Ids of unreleased paths on which the control plane has something to do: looked at after a start.

    An external path that is exported stays in its hands, and at rest.
    """
    moving = or_(paths.c.agent.is_not(None), paths.c.dropped.is_(True), paths.c.rung < Rung.EXPORTED)
    statement = select(paths.c.id).where(paths.c.live == LIVE, paths.c.hands == Hands.CONTROL, moving)
    return list(tx.execute(statement).scalars())


def overdue(tx: Tx, before_at: int, rows_max: int) -> list[Attachment]:
    """Open attachments whose request is past its deadline and not reached, oldest first."""
    return [as_struct(Attachment, row) for row in tx.execute(_OVERDUE, {"before": before_at, "rows_max": rows_max})]


def expired(tx: Tx, before_at: int, rows_max: int) -> list[Attachment]:
    """Those of them that have not been given up either."""
    return [as_struct(Attachment, row) for row in tx.execute(_EXPIRED, {"before": before_at, "rows_max": rows_max})]
