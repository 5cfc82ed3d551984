"""What a comparison of records with reality can find, what Kevel does about it, and when a person is needed."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec


class FindingKind(enum.Enum):
    """How reality and the records differ."""

    DISK_MISSING = "disk_missing"
    SERVER_STOPPED = "server_stopped"
    SERVER_RUNS = "server_runs"
    SERVER_LEFT = "server_left"
    SERVER_UNKNOWN = "server_unknown"
    DISK_LEFT = "disk_left"
    DISK_UNKNOWN = "disk_unknown"
    HOST_SILENT = "host_silent"
    VOLUME_GONE = "volume_gone"
    VOLUME_LEFT = "volume_left"
    VOLUME_UNKNOWN = "volume_unknown"
    SNAPSHOT_GONE = "snapshot_gone"
    SNAPSHOT_LEFT = "snapshot_left"
    SNAPSHOT_UNKNOWN = "snapshot_unknown"
    EXPORT_MISSING = "export_missing"
    EXPORT_LEFT = "export_left"
    EXPORT_UNKNOWN = "export_unknown"
    STORAGE_SILENT = "storage_silent"
    OVERDUE = "overdue"
    HISTORY_DIFFERS = "history_differs"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. `subject` ("host:NAME", "storage:NAME", "records") with kind and key name it for good."""

    subject: str
    kind: FindingKind
    #: The thing's own name: an id, an export's name, "SERVER/ALIAS" for a disk.
    key: str
    volume_id: str | None = None
    server_id: str | None = None
    attachment_id: str | None = None
    #: When it was first found; 0 before it is recorded.
    found_at: int = 0

    @property
    def place(self) -> str:
        """The host's or back end's name."""
        return self.subject.partition(":")[2]


@dataclass(frozen=True)
class _Rule:
    """The words for a kind. `{...}` are the finding's own fields."""

    what: str
    remedy: str
    #: Kevel cannot put it right by itself.
    needs_person: bool = False
    #: No record names it: nothing is ever done to it.
    unknown: bool = False


_LEFT_ALONE = "Kevel never removes what no record names. Find out whose it is; remove it by hand if it is nobody's."

_RULES = {
    FindingKind.DISK_MISSING: _Rule(
        "Volume {volume_id} is recorded as plugged into server {server_id}, and its guest on {place} lacks the disk.",
        "The host's agent looks at it again and plugs it.",
    ),
    FindingKind.SERVER_STOPPED: _Rule(
        "Server {server_id} is recorded as running, and does not run on {place}.",
        "The host's agent looks at it again and records what became of it.",
    ),
    FindingKind.SERVER_RUNS: _Rule(
        "Server {server_id} is recorded as stopped, and runs on {place}.",
        "The host's agent looks at it again and stops it.",
    ),
    FindingKind.SERVER_LEFT: _Rule(
        "Server {server_id} is deleted, and {place} still has it.",
        "The host's agent is told once more to remove it.",
    ),
    FindingKind.SERVER_UNKNOWN: _Rule(
        "Host {place} has a server {key} that no record names.", _LEFT_ALONE, needs_person=True, unknown=True
    ),
    FindingKind.DISK_LEFT: _Rule(
        "Server {server_id} on {place} has the disk of attachment {attachment_id}, which is closed.",
        "The host's agent is told once more to take it out. Its volume may be in use elsewhere by now.",
    ),
    FindingKind.DISK_UNKNOWN: _Rule(
        "Server {server_id} on {place} has a disk {key} that no record names.",
        _LEFT_ALONE,
        needs_person=True,
        unknown=True,
    ),
    FindingKind.HOST_SILENT: _Rule(
        "Host {place} does not answer.",
        "What it holds waits for it, and goes on by itself when it answers. Look at the host and its agent.",
        needs_person=True,
    ),
    FindingKind.VOLUME_GONE: _Rule(
        "Volume {volume_id} is recorded, and storage {place} no longer has it.",
        "Bring it back from a backup, or delete the volume.",
        needs_person=True,
    ),
    FindingKind.VOLUME_LEFT: _Rule(
        "Volume {volume_id} is deleted or lies in another pool, and storage {place} still has it.",
        "It is removed once more.",
    ),
    FindingKind.VOLUME_UNKNOWN: _Rule(
        "Storage {place} has a volume {key} that no record names.", _LEFT_ALONE, needs_person=True, unknown=True
    ),
    FindingKind.SNAPSHOT_GONE: _Rule(
        "Snapshot {key} of volume {volume_id} is recorded, and storage {place} no longer has it.",
        "Delete the snapshot: no volume can be made from it.",
        needs_person=True,
    ),
    FindingKind.SNAPSHOT_LEFT: _Rule(
        "What was copied of volume {volume_id} as {key} is not needed any more, and storage {place} still has it.",
        "It is removed once more.",
    ),
    FindingKind.SNAPSHOT_UNKNOWN: _Rule(
        "Storage {place} has a snapshot {key} that no record names.", _LEFT_ALONE, needs_person=True, unknown=True
    ),
    FindingKind.EXPORT_MISSING: _Rule(
        "Attachment {attachment_id} is recorded as exported, and storage {place} does not let its host in.",
        "Its host looks at it again; an external consumer's export is made again. If a guest cannot use the disk, "
        "detach the volume and attach it again.",
        needs_person=True,
    ),
    FindingKind.EXPORT_LEFT: _Rule(
        "Attachment {attachment_id} needs no export any more, and storage {place} still lets its host in.",
        "The export is revoked once more.",
    ),
    FindingKind.EXPORT_UNKNOWN: _Rule(
        "Storage {place} has an export {key} that no record names.", _LEFT_ALONE, needs_person=True, unknown=True
    ),
    FindingKind.STORAGE_SILENT: _Rule(
        "Storage {place} does not answer, so it could not be compared.",
        "What needs it waits, and goes on by itself when it answers. Look at the storage.",
        needs_person=True,
    ),
    FindingKind.OVERDUE: _Rule(
        "Attachment {attachment_id} of volume {volume_id} is past its deadline and not where it should be.",
        "It is still pursued. `kevel attachment why {attachment_id}` says what it waits for.",
        needs_person=True,
    ),
    FindingKind.HISTORY_DIFFERS: _Rule(
        "Attachment {attachment_id} of volume {volume_id} does not stand where its journal says.",
        "Somebody has changed the database by hand, or its file is damaged. Detach the volume, or bring the database "
        "back from a backup.",
        needs_person=True,
    ),
}
assert _RULES.keys() == set(FindingKind), "each kind has its words"


def _fill(text: str, finding: Finding) -> str:
    return text.format(place=finding.place, **msgspec.structs.asdict(finding))


def describe_finding(finding: Finding) -> str:
    """What differs, in one sentence."""
    return _fill(_RULES[finding.kind].what, finding)


def describe_remedy(finding: Finding) -> str:
    """What is done about it, by Kevel or by a person."""
    return _fill(_RULES[finding.kind].remedy, finding)


def needs_person(finding: Finding) -> bool:
    """Does it stay so until somebody does something?"""
    return _RULES[finding.kind].needs_person


def is_unknown(finding: Finding) -> bool:
    """Does no record name it? Then it is reported, and never touched."""
    return _RULES[finding.kind].unknown
