"""Comparisons of the records with what is really there: judged in a reading transaction, recorded in a writing one.

A row is written before the effect that it names, and is never deleted. So what a listing shows and no row names, once
the listing has been made, is unknown for good; and a difference counts only while its row has not moved since.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update

from kevel.domain.assignments import DiskSight, HostCensus, ServerSight, Stranger
from kevel.domain.findings import Finding, FindingKind
from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.model import Path, ServerRung
from kevel.domain.server_life import LEAVES_HOST, STAYING
from kevel.store.attachments import PATH_COLUMNS, load_attachment, overdue
from kevel.store.hosts import current_epoch, host_is_up, list_hosts, raise_version
from kevel.store.path_rows import stamp_path
from kevel.store.schema.attachments import attachments, journal, paths
from kevel.store.schema.base import LIVE
from kevel.store.schema.findings import censuses, findings
from kevel.store.schema.servers import hosts, servers
from kevel.store.servers import load_server, stamp_server
from kevel.store.transactions import Tx, as_struct, row_columns

#: Overdue attachments that one look lists.
OVERDUE_MAX: Final = 200
_ALIAS: Final = "ua-"


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """The newest comparison with one host or back end."""

    subject: str
    number: int
    epoch: int
    sequence: int
    at: int
    counted: dict[str, int]


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What a host's census says against the records."""

    #: Sights that are news.
    sights: tuple[DiskSight, ...]
    findings: tuple[Finding, ...]


_CENSUS_COLUMNS = row_columns(censuses, Census)
_CENSUSES = select(*_CENSUS_COLUMNS).order_by(censuses.c.subject)
_CENSUS = select(*_CENSUS_COLUMNS).where(censuses.c.subject == bindparam("of_subject"))
_INSERT_CENSUS = insert(censuses)
_UPDATE_CENSUS = (
    update(censuses)
    .where(censuses.c.subject == bindparam("of_subject"))
    .values(
        number=bindparam("new_number"),
        epoch=bindparam("new_epoch"),
        sequence=bindparam("new_sequence"),
        at=bindparam("new_at"),
        counted=bindparam("new_counted"),
    )
)
_WANTED = select(hosts.c.census_wanted).where(hosts.c.name == bindparam("of_host"))
_FINDING_COLUMNS = row_columns(findings, Finding)
_FINDINGS = select(*_FINDING_COLUMNS).order_by(findings.c.found_at, findings.c.id)
_FINDINGS_OF = _FINDINGS.where(findings.c.subject == bindparam("of_subject"))
_INSERT_FINDING = insert(findings)
_DELETE_FINDING = delete(findings).where(
    findings.c.subject == bindparam("of_subject"),
    findings.c.kind == bindparam("of_kind"),
    findings.c.key == bindparam("of_key"),
)
_HELD = (
    select(
        paths.c.id,
        paths.c.revision,
        paths.c.rung,
        paths.c.seen,
        paths.c.attachment_id,
        paths.c.volume_id,
        paths.c.server_id,
        attachments.c.goal,
        servers.c.goal.label("server_goal"),
    )
    .join(attachments, attachments.c.id == paths.c.attachment_id)
    .join(servers, servers.c.id == paths.c.server_id)
    .where(paths.c.host == bindparam("of_host"), paths.c.live == LIVE, paths.c.hands == Hands.HOST)
)
_SEE = (
    update(paths)
    .where(paths.c.id == bindparam("of_id"), paths.c.revision == bindparam("was_revision"))
    .values(seen=bindparam("new_seen"))
)
_PATHS_ON = (
    select(*PATH_COLUMNS)
    .where(paths.c.attachment_id == bindparam("of_attachment"), paths.c.host == bindparam("of_host"))
    .order_by(paths.c.generation)
)
_TOLD = (
    select(journal.c.after)
    .where(journal.c.attachment_id == paths.c.attachment_id, journal.c.subject_id == paths.c.id)
    .where(journal.c.what == "rung")
    .order_by(journal.c.seq.desc())
    .limit(1)
    .scalar_subquery()
)
_HISTORY = select(
    paths.c.id,
    paths.c.attachment_id,
    paths.c.volume_id,
    paths.c.server_id,
    paths.c.rung,
    paths.c.changed_at,
    _TOLD.label("told"),
).where(paths.c.live == LIVE)


def host_subject(name: str) -> str:
    """How comparisons with a host are named."""
    return f"host:{name}"


def storage_subject(name: str) -> str:
    """How comparisons with a back end are named."""
    return f"storage:{name}"


def judge_census(tx: Tx, host: str, census: HostCensus) -> Judgement:
    """Hold what was seen against the rows, which are read after it was seen."""
    held = {row.id: row for row in tx.execute(_HELD, {"of_host": host})}
    subject = host_subject(host)
    news: list[DiskSight] = []
    found: list[Finding] = []
    for sight in census.disks:
        row = held.get(sight.path_id)
        if row is None or row.revision != sight.revision:
            continue
        if row.seen != sight:
            news.append(sight)
        lacks = not sight.persistent or sight.live is False
        wanted = row.goal is Goal.ATTACHED and row.server_goal not in LEAVES_HOST
        if lacks and row.rung is Rung.PLUGGED and wanted:
            found.append(_disk_missing(subject, row))
    found += filter(None, (_judge_server(tx, subject, host, sight) for sight in census.differing))
    found += filter(None, (_judge_stranger(tx, subject, host, stranger) for stranger in census.strangers))
    return Judgement(sights=tuple(news), findings=tuple(found))


def _disk_missing(subject: str, row: Any) -> Finding:
    return Finding(
        subject=subject,
        kind=FindingKind.DISK_MISSING,
        key=row.id,
        volume_id=row.volume_id,
        server_id=row.server_id,
        attachment_id=row.attachment_id,
    )


def _judge_server(tx: Tx, subject: str, host: str, sight: ServerSight) -> Finding | None:
    server = load_server(tx, sight.server_id)
    if server is None or server.host != host or server.revision != sight.revision:
        return None
    if server.rung.has_process and not sight.runs and server.goal is STAYING[server.rung]:
        kind = FindingKind.SERVER_STOPPED
    elif not server.rung.has_process and sight.runs and server.goal is STAYING[server.rung]:
        kind = FindingKind.SERVER_RUNS
    else:
        return None  # on its way
    return Finding(subject=subject, kind=kind, key=server.id, server_id=server.id)


def _judge_stranger(tx: Tx, subject: str, host: str, stranger: Stranger) -> Finding | None:
    server = load_server(tx, stranger.server_id)
    known = server is not None and server.host == host
    if not stranger.alias:
        if not known:
            return Finding(subject=subject, kind=FindingKind.SERVER_UNKNOWN, key=stranger.server_id)
        if server is None or server.rung > ServerRung.OFFLOADED:
            return None
        return Finding(subject=subject, kind=FindingKind.SERVER_LEFT, key=server.id, server_id=server.id)
    if server is None or not known or server.rung <= ServerRung.OFFLOADED:
        return None  # the server itself is the finding
    attachment = load_attachment(tx, stranger.alias.removeprefix(_ALIAS))
    disk = Finding(
        subject=subject,
        kind=FindingKind.DISK_UNKNOWN,
        key=f"{stranger.server_id}/{stranger.alias}",
        server_id=stranger.server_id,
    )
    if attachment is None or attachment.server_id != stranger.server_id:
        return disk
    if attachment.closed_at is None:
        return None
    if _find_tombstone(tx, attachment.id, host) is None:
        return disk
    more = {"volume_id": attachment.volume_id, "attachment_id": attachment.id}
    return msgspec.structs.replace(disk, kind=FindingKind.DISK_LEFT, **more)


def _find_tombstone(tx: Tx, attachment_id: str, host: str) -> Path | None:
    """The attachment's last path on that host, if all of them are released: then its disk is nobody's there."""
    found = [as_struct(Path, row) for row in tx.execute(_PATHS_ON, {"of_attachment": attachment_id, "of_host": host})]
    return found[-1] if found and all(path.rung is Rung.RELEASED for path in found) else None


def record_census(
    tx: Tx, host: str, epoch: int, census: HostCensus, judgement: Judgement, at: int
) -> list[Finding] | None:
    """Keep what a host's census found; the findings that are new. None: outdated, and nothing was changed (S6, S11).

    A deleted server that is still there is assigned once more, so that its agent removes it behind the tombstone; so is
    the released path of a disk that is.
    """
    subject = host_subject(host)
    last = load_census(tx, subject)
    if current_epoch(tx, host) != epoch or (
        last is not None and (epoch, census.sequence) <= (last.epoch, last.sequence)
    ):
        return None
    for sight in judgement.sights:
        tx.execute(_SEE, {"of_id": sight.path_id, "was_revision": sight.revision, "new_seen": sight})
    for finding in judgement.findings:
        if finding.kind is FindingKind.SERVER_LEFT:
            stamp_server(tx, finding.key, host)
        elif finding.kind is FindingKind.DISK_LEFT and finding.attachment_id is not None:
            path = _find_tombstone(tx, finding.attachment_id, host)
            if path is not None:
                stamp_path(tx, path)
    taken = Census(
        subject=subject,
        number=census.number,
        epoch=epoch,
        sequence=census.sequence,
        at=at,
        counted={"servers": census.servers, "disks": len(census.disks)},
    )
    return record_comparison(tx, taken, judgement.findings)


def record_comparison(tx: Tx, taken: Census, found: Iterable[Finding]) -> list[Finding]:
    """Replace what the subject's last comparison found; the findings that are new."""
    fields = msgspec.structs.asdict(taken)
    values = {f"new_{name}": value for name, value in fields.items() if name != "subject"}
    if tx.execute(_UPDATE_CENSUS, values | {"of_subject": taken.subject}).rowcount == 0:
        tx.execute(_INSERT_CENSUS, fields)
    before = {(one.kind, one.key) for one in findings_of(tx, taken.subject)}
    now = {(one.kind, one.key): one for one in found}
    for kind, key in before - now.keys():
        tx.execute(_DELETE_FINDING, {"of_subject": taken.subject, "of_kind": kind, "of_key": key})
    new = [msgspec.structs.replace(one, found_at=taken.at) for name, one in now.items() if name not in before]
    for one in new:
        tx.execute(_INSERT_FINDING, msgspec.structs.asdict(one))
    return new


def storage_census(backend: str, counted: dict[str, int], at: int) -> Census:
    """A comparison with a back end, which the control plane makes itself."""
    return Census(subject=storage_subject(backend), number=0, epoch=0, sequence=0, at=at, counted=counted)


def want_censuses(tx: Tx) -> dict[str, int]:
    """Ask every host's agent for a census now; the number under which each will answer."""
    wanted: dict[str, int] = {}
    for host in list_hosts(tx):
        number = int(tx.execute(_WANTED, {"of_host": host.name}).scalar() or 0) + 1
        tx.execute(update(hosts).where(hosts.c.name == host.name).values(census_wanted=number))
        raise_version(tx, host.name)
        wanted[host.name] = number
    return wanted


def load_census(tx: Tx, subject: str) -> Census | None:
    """The newest comparison with the subject."""
    row = tx.execute(_CENSUS, {"of_subject": subject}).first()
    return None if row is None else as_struct(Census, row)


def list_censuses(tx: Tx) -> list[Census]:
    """The newest comparison with each host and back end."""
    return [as_struct(Census, row) for row in tx.execute(_CENSUSES)]


def findings_of(tx: Tx, subject: str) -> list[Finding]:
    """What the subject's newest comparison found."""
    return [as_struct(Finding, row) for row in tx.execute(_FINDINGS_OF, {"of_subject": subject})]


def list_findings(tx: Tx, at: int) -> list[Finding]:
    """All that differs now: what comparisons found, silent hosts, and attachments past their deadline."""
    found = [as_struct(Finding, row) for row in tx.execute(_FINDINGS)]
    for host in list_hosts(tx):
        if not host_is_up(host, at):
            subject = host_subject(host.name)
            found.append(Finding(subject=subject, kind=FindingKind.HOST_SILENT, key=host.name, found_at=host.seen_at))
    return found + _overdue(tx, at)


def _overdue(tx: Tx, at: int) -> list[Finding]:
    return [
        Finding(
            subject="records",
            kind=FindingKind.OVERDUE,
            key=one.id,
            volume_id=one.volume_id,
            server_id=one.server_id,
            attachment_id=one.id,
            found_at=one.deadline_at,
        )
        for one in overdue(tx, at, OVERDUE_MAX)
    ]


def check_history(tx: Tx) -> list[Finding]:
    """Open attachments whose paths do not stand where their journal says (S12)."""
    return [
        Finding(
            subject="records",
            kind=FindingKind.HISTORY_DIFFERS,
            key=row.id,
            volume_id=row.volume_id,
            server_id=row.server_id,
            attachment_id=row.attachment_id,
            found_at=row.changed_at,
        )
        for row in tx.execute(_HISTORY)
        if row.rung.name.lower() != row.told
    ]
