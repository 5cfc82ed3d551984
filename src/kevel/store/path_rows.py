"""The rows of claims, attachments and paths as they begin, and the lines of the journal that tell of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, update

from kevel.domain.ladder import Hands, Rung
from kevel.domain.model import Actor, Attachment, Path, Volume
from kevel.store.hosts import raise_version
from kevel.store.journal import Entry, append
from kevel.store.schema.attachments import attachments, claims, paths
from kevel.store.schema.volumes import volumes
from kevel.store.transactions import Tx

_NEXT_GENERATION = (
    update(volumes)
    .where(volumes.c.id == bindparam("of_id"))
    .values(generation=volumes.c.generation + 1)
    .returning(volumes.c.generation)
)
_INSERT_CLAIM = insert(claims)
_INSERT_ATTACHMENT = insert(attachments)
_INSERT_PATH = insert(paths)
_STAMP = update(paths).where(paths.c.id == bindparam("of_id")).values(host_version=bindparam("new_host_version"))


def name_user(actor: Actor) -> str:
    """How the journal names a user."""
    return f"user:{actor.user_id}"


def draw_generation(tx: Tx, volume_id: str) -> int:
    """The generation of the volume's next path."""
    return int(tx.execute(_NEXT_GENERATION, {"of_id": volume_id}).scalar_one())


def insert_claim(tx: Tx, claim_id: str, volume: Volume, holder: str, at: int) -> None:
    """Claim the volume. Raises IntegrityError when somebody else holds it (index one_holder); callers look before."""
    claim = {"id": claim_id, "volume_id": volume.id, "holder": holder, "shared": volume.multiattach}
    tx.execute(_INSERT_CLAIM, claim | {"live": 1, "claimed_at": at, "released_at": None})


def insert_attachment(tx: Tx, attachment: Attachment, claim_id: str, *, actor: Actor, detail: dict[str, Any]) -> None:
    """Enter a new attachment that hangs on the claim."""
    tx.execute(_INSERT_ATTACHMENT, msgspec.structs.asdict(attachment) | {"claim_id": claim_id, "live": 1})
    append(tx, goal_entry(attachment, "none", actor=name_user(actor), at=attachment.created_at, detail=detail))


def insert_path(tx: Tx, path: Path, *, actor: str, request_id: str) -> None:
    """Enter a new path; whoever holds it is woken."""
    agent = None if path.server_id is None else path.host
    version = 0 if agent is None else raise_version(tx, agent)
    tx.execute(_INSERT_PATH, msgspec.structs.asdict(path) | {"live": 1, "agent": agent, "host_version": version})
    journal_rungs(tx, path, Rung.RELEASED, path.rung, actor=actor, request_id=request_id, at=path.changed_at)
    if path.hands is Hands.CONTROL and path.rung is Rung.RESERVED:
        tx.wake("path", path.id)


def stamp_path(tx: Tx, path: Path) -> None:
    """Have whoever holds the path look at it: something about it has changed."""
    if path.server_id is not None:
        tx.execute(_STAMP, {"of_id": path.id, "new_host_version": raise_version(tx, path.host)})
    if path.hands is Hands.CONTROL:
        tx.wake("path", path.id)


def goal_entry(attachment: Attachment, before: str, *, actor: str, at: int, detail: dict[str, Any]) -> Entry:
    """The line of a goal that is set."""
    return Entry(
        at=at,
        subject="attachment",
        subject_id=attachment.id,
        what="goal",
        before=before,
        after=attachment.goal.value,
        revision=attachment.goal_revision,
        actor=actor,
        request_id=attachment.goal_request_id,
        volume_id=attachment.volume_id,
        server_id=attachment.server_id,
        attachment_id=attachment.id,
        detail=detail,
    )


def journal_path(
    tx: Tx,
    path: Path,
    what: str,
    before: str,
    after: str,
    *,
    actor: str,
    request_id: str,
    at: int,
    took_us: int | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """A line about a path."""
    entry = Entry(
        at=at,
        subject="path",
        subject_id=path.id,
        what=what,
        before=before,
        after=after,
        revision=path.revision,
        generation=path.generation,
        actor=actor,
        request_id=request_id,
        volume_id=path.volume_id,
        server_id=path.server_id,
        attachment_id=path.attachment_id,
        took_us=took_us,
        detail=detail,
    )
    append(tx, entry)


def journal_rungs(
    tx: Tx,
    path: Path,
    before: Rung,
    after: Rung,
    *,
    actor: str,
    request_id: str,
    at: int,
    took_us: int | None = None,
) -> None:
    """One line a rung, also for rungs passed without an effect; the acts' duration stands on the last of them."""
    step = 1 if after > before else -1
    crossed = [Rung(number) for number in range(before, after + step, step)]
    for source, target in pairwise(crossed):
        journal_path(
            tx,
            path,
            "rung",
            source.name.lower(),
            target.name.lower(),
            actor=actor,
            request_id=request_id,
            at=at,
            took_us=took_us if target is after else None,
            detail={"hands": path.hands.value} if target is after else None,
        )
