"""All that is known of an attachment, read in one snapshot; and the wish that somebody looks at it again."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, and_, bindparam, exists, or_, select

from kevel.domain.assignments import DiskSight
from kevel.domain.errors import Conflict, NotFound
from kevel.domain.explain import Explanation, Layer, Sights, collect_answers, describe_layers, explain
from kevel.domain.findings import FindingKind
from kevel.domain.ladder import Goal, Rung
from kevel.domain.model import Actor, Attachment, Path, Server, Stage
from kevel.store.attachments import ATTACHMENT_COLUMNS, live_paths, load_attachment
from kevel.store.censuses import findings_of, host_subject, load_census, storage_subject
from kevel.store.hosts import host_is_up, load_host
from kevel.store.journal import Entry, append, lines_of
from kevel.store.path_rows import stamp_path
from kevel.store.schema.attachments import attachments, paths
from kevel.store.servers import load_server, stamp_server
from kevel.store.transactions import Tx, as_struct
from kevel.store.volumes import is_withheld, load_volume

#: Lines of one attachment's journal that an account reads; one has a few dozen.
LINES_MAX = 10_000

_SEEN = select(paths.c.seen).where(paths.c.id == bindparam("of_id"))


class PathAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A path with what is known of each of its layers."""

    path: Path
    layers: tuple[Layer, ...]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An attachment, and why it is where it is."""

    attachment: Attachment
    paths: tuple[PathAccount, ...]
    explanation: Explanation


class AccountFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which attachments to list, newest first. None: not asked for."""

    project_id: str | None
    server_id: str | None = None
    volume_id: str | None = None
    #: Only those that are not where they should be.
    unfinished: bool = False
    #: Closed ones too.
    closed: bool = False
    #: The id of the last one of the page before.
    marker: str | None = None
    limit: int


def find_attachment(tx: Tx, attachment_id: str, actor: Actor) -> Attachment:
    """The attachment, open or closed, if it exists for this actor; NotFound else (S9)."""
    attachment = load_attachment(tx, attachment_id)
    if attachment is None or not (actor.is_admin or attachment.project_id == actor.project_id):
        raise NotFound(f"Attachment {attachment_id[:64]} could not be found.")
    return attachment


def load_account(
    tx: Tx, attachment: Attachment, effect_free: Mapping[str, Container[Rung]], now: int, *, layers: bool = True
) -> Account:
    """What is known of the attachment; without `layers`, they are left out."""
    held = live_paths(tx, attachment.id)
    path = held[0] if held else None
    server = None if attachment.server_id is None else load_server(tx, attachment.server_id)
    volume = load_volume(tx, attachment.volume_id)
    agent = None if path is None or path.server_id is None else path.host
    silent = agent is not None and not host_is_up(load_host(tx, agent), now)
    return Account(
        attachment=attachment,
        paths=tuple(
            PathAccount(path=one, layers=_layers(tx, attachment, one, server, effect_free) if layers else ())
            for one in held
        ),
        explanation=explain(
            attachment,
            path,
            server,
            host_silent=silent,
            volume_made=volume is None or volume.made,
            withheld=is_withheld(tx, attachment.volume_id),
        ),
    )


def _layers(
    tx: Tx, attachment: Attachment, path: Path, server: Server | None, effect_free: Mapping[str, Container[Rung]]
) -> tuple[Layer, ...]:
    volume = load_volume(tx, path.volume_id)
    if volume is None:
        raise AssertionError(f"path {path.id} has no volume")
    moves = [
        (Rung[line.before.upper()], Rung[line.after.upper()], line.at, line.actor)
        for line in lines_of(tx, attachment.id, 0, LINES_MAX)
        if line.subject_id == path.id and line.what == "rung"
    ]
    free = effect_free.get(volume.backend, ())
    sights = _sights(tx, path, volume.backend, compared=Rung.EXPORTED not in free)
    return describe_layers(
        attachment,
        path,
        server,
        effect_free=free,
        answers=collect_answers(moves),
        sights=sights,
        withheld=is_withheld(tx, volume.id),
    )


def _sights(tx: Tx, path: Path, backend: str, *, compared: bool) -> Sights:
    seen: DiskSight | None = tx.execute(_SEEN, {"of_id": path.id}).scalar()
    host = load_census(tx, host_subject(path.host))
    storage = load_census(tx, storage_subject(backend)) if compared else None
    sights = Sights(disk=seen, disk_at=None if host is None else host.at)
    if storage is None or "exports" not in storage.counted:
        return sights
    found = {finding.kind for finding in findings_of(tx, storage.subject) if finding.key == path.id}
    there = path.rung >= Rung.EXPORTED and FindingKind.EXPORT_MISSING not in found
    return msgspec.structs.replace(sights, export=there, export_at=storage.at, storage=backend)


def list_accounts(
    tx: Tx, wanted: AccountFilter, effect_free: Mapping[str, Container[Rung]], now: int
) -> tuple[list[Account], bool]:
    """One page of attachments without layers, newest first, and whether more follow. Raises NotFound for a marker."""
    statement = select(*ATTACHMENT_COLUMNS).where(*_conditions(wanted))
    if wanted.marker is not None:
        last = load_attachment(tx, wanted.marker)
        if last is None or wanted.project_id not in (None, last.project_id):
            raise NotFound(f"Attachment {wanted.marker[:64]} could not be found; it was given as a list's marker.")
        at, name = attachments.c.created_at, attachments.c.id
        statement = statement.where(or_(at < last.created_at, and_(at == last.created_at, name < last.id)))
    statement = statement.order_by(attachments.c.created_at.desc(), attachments.c.id.desc()).limit(wanted.limit + 1)
    found = [as_struct(Attachment, row) for row in tx.execute(statement)]
    accounts = [load_account(tx, one, effect_free, now, layers=False) for one in found[: wanted.limit]]
    return accounts, len(found) > wanted.limit


def _conditions(wanted: AccountFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for column, value in (
        (attachments.c.project_id, wanted.project_id),
        (attachments.c.server_id, wanted.server_id),
        (attachments.c.volume_id, wanted.volume_id),
    ):
        if value is not None:
            conditions.append(column == value)
    if wanted.unfinished or not wanted.closed:
        conditions.append(attachments.c.closed_at.is_(None))
    if wanted.unfinished:
        plugged = exists().where(paths.c.attachment_id == attachments.c.id, paths.c.rung == Rung.PLUGGED)
        declared = attachments.c.stage.is_not_distinct_from(Stage.ATTACHED)
        conditions.append(or_(attachments.c.goal == Goal.DETACHED, and_(~plugged, ~declared)))
    return conditions


def ask_look(tx: Tx, attachment_id: str, actor: Actor, at: int) -> None:
    """Have whoever holds the attachment's paths look again now, and with suspicion (Conflict when it is closed).

    The path is assigned to its host once more, unchanged: that is what makes the agent suspicious.
    """
    attachment = find_attachment(tx, attachment_id, actor)
    if attachment.closed_at is not None:
        raise Conflict(f"Attachment {attachment_id} is closed; nothing is left to be looked at.")
    for path in live_paths(tx, attachment.id):
        stamp_path(tx, path)
        if path.server_id is not None:
            stamp_server(tx, path.server_id, path.host)
        append(tx, _retry_entry(path, actor, at))


def _retry_entry(path: Path, actor: Actor, at: int) -> Entry:
    fields: dict[str, Any] = {"subject": "path", "subject_id": path.id, "what": "retry"}
    fields |= {"before": path.rung.name.lower(), "after": path.rung.name.lower()}
    return Entry(
        **fields,
        at=at,
        revision=path.revision,
        generation=path.generation,
        actor=f"user:{actor.user_id}",
        request_id=actor.request_id,
        volume_id=path.volume_id,
        server_id=path.server_id,
        attachment_id=path.attachment_id,
    )
