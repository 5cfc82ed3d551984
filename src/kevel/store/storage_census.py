"""What a back end really has, held against the records.

Rows are read before the listing and after it. What is missing has to have been recorded at both times; what is there
too much, the later reading does not name, or it was a tombstone before the listing began. So nothing that is on its way
is ever taken for a difference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import and_, bindparam, or_, select

from kevel.domain.copies import stage_id
from kevel.domain.findings import Finding, FindingKind
from kevel.domain.ladder import Hands, Rung
from kevel.domain.model import OperationKind, Subject, Volume
from kevel.store.attachments import load_path
from kevel.store.censuses import record_comparison, storage_census, storage_subject
from kevel.store.path_rows import stamp_path
from kevel.store.pool_moves import pools_passed
from kevel.store.schema.attachments import paths
from kevel.store.schema.base import LIVE
from kevel.store.schema.volumes import operations, snapshots, volumes
from kevel.store.snapshots import load_snapshot
from kevel.store.transactions import Tx
from kevel.store.volumes import load_volume

#: Differences of one back end that are kept; with more, the rest is told once some have gone.
FINDINGS_MAX: Final = 1000

_MADE = select(volumes.c.id).where(
    volumes.c.backend == bindparam("of_backend"), volumes.c.live == LIVE, volumes.c.made.is_(True)
)
_LIVE = select(volumes.c.id).where(volumes.c.backend == bindparam("of_backend"), volumes.c.live == LIVE)
_SNAPSHOTS = select(snapshots.c.id, snapshots.c.made).where(
    snapshots.c.backend == bindparam("of_backend"), snapshots.c.live == LIVE
)
_DELETING_SNAPSHOTS = select(operations.c.subject_id).where(
    operations.c.finished_at.is_(None),
    operations.c.subject == Subject.SNAPSHOT,
    operations.c.kind == OperationKind.DELETING,
)
#: Operations of a volume that had not ended at that time.
_BUSY = (
    select(operations.c.id)
    .where(operations.c.subject == Subject.VOLUME, operations.c.subject_id == bindparam("of_volume"))
    .where(operations.c.finished_at.is_(None) | (operations.c.finished_at >= bindparam("since")))
    .limit(1)
)
_DELETING = select(operations.c.subject_id).where(
    operations.c.finished_at.is_(None),
    operations.c.subject == Subject.VOLUME,
    operations.c.kind == OperationKind.DELETING,
)
_EXPORTED = (
    select(paths.c.id, paths.c.revision, paths.c.generation, paths.c.attachment_id, paths.c.volume_id, paths.c.host)
    .join(volumes, volumes.c.id == paths.c.volume_id)
    # Others in the control plane's hands are on their way: an export may be revoked, and the record not yet written.
    .where(volumes.c.backend == bindparam("of_backend"), paths.c.live == LIVE, paths.c.rung >= Rung.EXPORTED)
    .where(or_(paths.c.hands == Hands.HOST, and_(paths.c.agent.is_(None), paths.c.dropped.is_(False))))
)


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What the records say that a back end has."""

    #: When this was read.
    at: int
    volumes: frozenset[str]
    snapshots: frozenset[str]
    #: The revisions of the paths that hosts and external consumers hold, which are exported.
    exports: Mapping[str, int]


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What the back end says itself."""

    volumes: frozenset[str]
    snapshots: frozenset[str]
    #: Exports as (path, generation); None: exporting has no effect there.
    exports: frozenset[tuple[str, int]] | None


def expect(tx: Tx, backend: str, at: int) -> Expected:
    """What should be there now."""
    exported = tx.execute(_EXPORTED, {"of_backend": backend})
    return Expected(
        at=at,
        volumes=frozenset(tx.execute(_MADE, {"of_backend": backend}).scalars()),
        snapshots=_made_snapshots(tx, backend),
        exports={row.id: row.revision for row in exported},
    )


def judge_storage(tx: Tx, backend: str, before: Expected, listed: Listed) -> list[Finding]:
    """How listing and records differ; the records of before the listing count as far as they still hold."""
    subject = storage_subject(backend)
    found = [*_judge_volumes(tx, backend, subject, before, listed.volumes)]
    found += _judge_snapshots(tx, backend, subject, before, listed.snapshots)
    if listed.exports is not None:
        found += _judge_exports(tx, subject, before, listed.exports)
        found += _judge_missing_exports(tx, backend, subject, before.exports, listed.exports)
    return found[:FINDINGS_MAX]


def _judge_volumes(tx: Tx, backend: str, subject: str, before: Expected, listed: frozenset[str]) -> Iterator[Finding]:
    here = {"of_backend": backend}
    for volume_id in sorted(listed - set(tx.execute(_LIVE, here).scalars())):
        volume = load_volume(tx, volume_id)
        if volume is None or (volume.backend != backend and not _has_passed(tx, volume, backend)):
            yield Finding(subject=subject, kind=FindingKind.VOLUME_UNKNOWN, key=volume_id)
        elif volume.backend != backend:
            if not tx.execute(_BUSY, {"of_volume": volume_id, "since": before.at}):
                yield Finding(subject=subject, kind=FindingKind.VOLUME_LEFT, key=volume_id, volume_id=volume_id)
        elif volume.deleted_at is not None and volume.deleted_at < before.at and not volume.unmanaged:
            yield Finding(subject=subject, kind=FindingKind.VOLUME_LEFT, key=volume_id, volume_id=volume_id)
    still = set(tx.execute(_MADE, here).scalars()) - set(tx.execute(_DELETING).scalars())
    for volume_id in sorted(still.intersection(before.volumes) - listed):
        yield Finding(subject=subject, kind=FindingKind.VOLUME_GONE, key=volume_id, volume_id=volume_id)


def _has_passed(tx: Tx, volume: Volume, backend: str) -> bool:
    """Is what is there of a move of the volume? What Kevel has let go of may have been moved by anybody."""
    return not volume.unmanaged and backend in pools_passed(tx, volume.id)


def _made_snapshots(tx: Tx, backend: str) -> frozenset[str]:
    return frozenset(row.id for row in tx.execute(_SNAPSHOTS, {"of_backend": backend}) if row.made)


def _judge_snapshots(tx: Tx, backend: str, subject: str, before: Expected, listed: frozenset[str]) -> Iterator[Finding]:
    here = {"of_backend": backend}
    strange = sorted(listed - {row.id for row in tx.execute(_SNAPSHOTS, here)})
    stages = {stage_id(one): one for one in tx.execute(_LIVE, here).scalars()} if strange else {}
    for key in strange:
        snapshot = load_snapshot(tx, key)
        if snapshot is not None and snapshot.deleted_at is not None and snapshot.backend == backend:
            if snapshot.deleted_at < before.at:
                yield Finding(subject=subject, kind=FindingKind.SNAPSHOT_LEFT, key=key, volume_id=snapshot.volume_id)
        elif (volume_id := stages.get(key)) is None:
            yield Finding(subject=subject, kind=FindingKind.SNAPSHOT_UNKNOWN, key=key)
        elif not tx.execute(_BUSY, {"of_volume": volume_id, "since": before.at}):
            yield Finding(subject=subject, kind=FindingKind.SNAPSHOT_LEFT, key=key, volume_id=volume_id)
    still = _made_snapshots(tx, backend) - set(tx.execute(_DELETING_SNAPSHOTS).scalars())
    for key in sorted(still.intersection(before.snapshots) - listed):
        snapshot = load_snapshot(tx, key)
        volume_id = None if snapshot is None else snapshot.volume_id
        yield Finding(subject=subject, kind=FindingKind.SNAPSHOT_GONE, key=key, volume_id=volume_id)


def _judge_exports(tx: Tx, subject: str, before: Expected, listed: Collection[tuple[str, int]]) -> Iterator[Finding]:
    for path_id, generation in sorted(listed):
        path = load_path(tx, path_id)
        if path is None or path.generation != generation:
            yield Finding(subject=subject, kind=FindingKind.EXPORT_UNKNOWN, key=f"{path_id}-{generation}")
        elif path.rung is Rung.RELEASED and path.changed_at < before.at:
            yield _export_finding(subject, FindingKind.EXPORT_LEFT, path)


def _judge_missing_exports(
    tx: Tx, backend: str, subject: str, before: Mapping[str, int], listed: Collection[tuple[str, int]]
) -> Iterator[Finding]:
    for row in tx.execute(_EXPORTED, {"of_backend": backend}):
        if before.get(row.id) == row.revision and (row.id, row.generation) not in listed:
            yield _export_finding(subject, FindingKind.EXPORT_MISSING, row)


def _export_finding(subject: str, kind: FindingKind, path: Any) -> Finding:
    return Finding(subject=subject, kind=kind, key=path.id, volume_id=path.volume_id, attachment_id=path.attachment_id)


def record_storage(tx: Tx, backend: str, listed: Listed, found: Collection[Finding], at: int) -> list[Finding]:
    """Keep what differs, and put it up for a look; the findings that are new. Nothing else comes of a listing."""
    for finding in found:
        if finding.kind is FindingKind.VOLUME_LEFT:
            tx.wake("volume", finding.key)
        elif finding.kind is FindingKind.SNAPSHOT_LEFT and finding.volume_id is not None:
            is_stage = finding.key == stage_id(finding.volume_id)
            tx.wake("volume" if is_stage else "snapshot", finding.volume_id if is_stage else finding.key)
        elif finding.kind is FindingKind.EXPORT_LEFT:
            tx.wake("path", finding.key)
        elif finding.kind is FindingKind.EXPORT_MISSING:
            path = load_path(tx, finding.key)
            if path is not None:
                stamp_path(tx, path)
                tx.wake("path", path.id)  # only the control plane can export it again, whoever holds the path
    counted = {"volumes": len(listed.volumes)}
    if listed.snapshots:
        counted["snapshots"] = len(listed.snapshots)
    if listed.exports is not None:
        counted["exports"] = len(listed.exports)
    return record_comparison(tx, storage_census(backend, counted, at), found)
