"""The things Kevel keeps, as values. Times are microseconds since the epoch, UTC."""

from __future__ import annotations

import enum
from typing import Any, Final

import msgspec

from kevel.domain.ladder import Goal, Hands, Rung

GIB = 1024**3
MIB = 1024**2

#: Tags of one server, and characters of one tag.
TAGS_MAX = 50
TAG_CHARACTERS_MAX = 60


class ServerGoal(enum.Enum):
    """What the user wants of a server."""

    RUNNING = "running"
    #: The guest's processors stand still.
    PAUSED = "paused"
    #: The guest's memory lies in a file, and nothing runs.
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    #: It is stopped, and what was on its root disk is kept elsewhere, so that it can leave its host.
    SHELVED = "shelved"
    #: It has no host: nothing of it is on any, and its room is another's. Once asked for, it is pursued to the end.
    OFFLOADED = "offloaded"
    DELETED = "deleted"


class ServerRung(enum.IntEnum):
    """What is true of a server on its host."""

    #: Nothing is left anywhere; the row is a tombstone.
    GONE = 0
    #: The record exists, and no host is chosen: nothing is on any. The row's host is the one that it was on last.
    OFFLOADED = 1
    #: The record exists and the host is chosen; nothing is on the host.
    PLACED = 2
    #: Root disk and persistent definition exist; the guest does not run.
    DEFINED = 3
    #: The guest's memory and the disks that it had lie in a file; the guest does not run.
    SUSPENDED = 4
    #: The guest's process is there, and its processors stand still.
    PAUSED = 5
    #: The guest runs.
    RUNNING = 6

    @property
    def has_process(self) -> bool:
        """Is the guest's process there, running or paused?"""
        return self >= ServerRung.PAUSED


class BootKind(enum.Enum):
    """How the wanted boot of a running server is to come about."""

    SOFT = "soft"
    HARD = "hard"


class Subject(enum.Enum):
    """What operations work on. The value names its reconciler, too."""

    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    BACKUP = "backup"
    #: An image that is made of a server's root disk, or that has served its purpose and goes.
    IMAGE = "image"


class OperationKind(enum.Enum):
    """Exclusive work on a thing; at most one at a time. Most values are the status that users see meanwhile."""

    CREATING = "creating"
    DELETING = "deleting"
    EXTENDING = "extending"
    #: An image is written into a volume that exists.
    DOWNLOADING = "downloading"
    #: A volume, or a server's root disk, is written out as an image.
    UPLOADING = "uploading"
    #: A volume gets another type, and with it its contents move to another pool.
    RETYPING = "retyping"
    #: Its contents move to another pool.
    MIGRATING = "migrating"
    REVERTING = "reverting"
    BACKING_UP = "backing-up"
    RESTORING_BACKUP = "restoring-backup"
    #: A backup, while a volume is restored from it.
    RESTORING = "restoring"


#: The argument of a downloading that names the server for whose rebuild it is.
REBUILDS: Final = "rebuilds"


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why something is not as it was asked to be, for people."""

    code: str
    message: str
    at: int


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume's row."""

    id: str
    project_id: str
    user_id: str
    name: str
    description: str | None
    size_gib: int
    volume_type_id: str
    backend: str
    format: str
    availability_zone: str
    metadata: dict[str, str]
    bootable: bool
    readonly: bool
    #: Somebody has set `readonly`, to either value: Cinder shows the flag from then on.
    readonly_asked: bool = False
    multiattach: bool
    snapshot_id: str | None = None
    source_volume_id: str | None = None
    image_metadata: dict[str, str] | None = None
    #: Set once the back end has made it.
    made: bool
    fault: Reason | None
    #: A status an admin put over the computed one; hides and blocks, never frees a path.
    mask: str | None
    #: How its last move to another pool has ended: "success" or "error"; None: there was none, or none since a reset.
    migration_status: str | None = None
    generation: int
    #: The group that it is in.
    group_id: str | None = None
    #: The open offer of it to another project.
    transfer_id: str | None = None
    #: Of an encrypted one.
    encryption_key_id: str | None = None
    #: Its record is a tombstone, and its contents are left to somebody else.
    unmanaged: bool = False
    created_at: int
    updated_at: int | None
    deleted_at: int | None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot's row."""

    id: str
    volume_id: str
    project_id: str
    user_id: str
    name: str
    description: str | None
    size_gib: int
    backend: str
    format: str
    metadata: dict[str, str]
    group_snapshot_id: str | None = None
    bootable: bool = False
    image_metadata: dict[str, str] | None = None
    progress_said: str | None = None
    #: Its record is a tombstone, and its contents are left to somebody else.
    unmanaged: bool = False
    #: Set once the back end has made it.
    made: bool = False
    fault: Reason | None = None
    #: A status an admin put over the computed one.
    mask: str | None = None
    created_at: int
    updated_at: int | None = None
    deleted_at: int | None = None


class BackedVolume(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup keeps of its volume besides the contents, for the volume that is restored from it."""

    name: str
    description: str | None
    metadata: dict[str, str]
    volume_type_id: str
    bootable: bool
    image_metadata: dict[str, str] | None


#: Backups of one chain: a full one, and those that build on it one after the other.
BACKUP_CHAIN_MAX: Final = 100


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A backup's row. Its volume, and the snapshot it was made of, may be gone."""

    id: str
    project_id: str
    user_id: str
    volume_id: str
    snapshot_id: str | None
    #: The backup that it builds on; None: it is a full one.
    parent_id: str | None
    name: str | None
    description: str | None
    container: str | None
    availability_zone: str
    metadata: dict[str, str]
    #: The volume's size.
    size_gib: int
    #: Names of the files of which it consists, its own first. Imported records may share them with other backups.
    chain: list[str]
    #: SHA-256 of its manifest, once it is made.
    checksum: str | None = None
    stored_bytes: int = 0
    chunk_count: int = 0
    volume: BackedVolume
    #: The time of which it holds the contents.
    data_at: int
    made: bool = False
    fault: Reason | None = None
    #: A status an admin put over the computed one.
    mask: str | None = None
    created_at: int
    updated_at: int | None = None
    deleted_at: int | None = None


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """Exclusive work on one thing."""

    id: int
    subject: Subject
    subject_id: str
    #: The volume that it is about.
    volume_id: str | None
    kind: OperationKind
    #: What it copies from: a volume's or snapshot's id, or an image's file.
    reads: str | None = None
    #: Per cent of its copy that are done.
    progress: int = 0
    #: What the kind needs: {"size_gib": 2} for extending.
    args: dict[str, Any]
    request_id: str
    created_at: int
    deadline_at: int
    finished_at: int | None
    last_error: Reason | None


class Stage(enum.Enum):
    """How far the client of an external attachment says that it has come. The values are Cinder's words."""

    #: Claimed through the attachments API, and not connected yet.
    RESERVED = "reserved"
    #: Claimed in the old flow, or connected: the client is at work.
    ATTACHING = "attaching"
    ATTACHED = "attached"
    #: The client has begun to detach it (old flow).
    DETACHING = "detaching"


class Origin(enum.Enum):
    """The call by which an external attachment was declared."""

    ATTACHMENT = "attachment"
    RESERVE = "os-reserve"
    CONNECTION = "os-initialize_connection"
    ATTACH = "os-attach"


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A user wants a volume in a server, or has told us that something else uses it (an external attachment)."""

    id: str
    volume_id: str
    server_id: str | None
    project_id: str
    goal: Goal
    goal_revision: int
    #: The request that set the goal, and who asked: "user", "rollback" (a new one's climb failed), "refusal" (the guest
    #: kept the disk), "server" (the server goes away).
    goal_request_id: str
    goal_by: str
    goal_at: int
    deadline_at: int
    #: True once it was plugged for its request, or its client has got its answer: a failure never gives it away from
    #: then on.
    established: bool
    #: Of an external one, what its client says; None: nothing.
    device: str | None
    #: None: external.
    unit: int | None
    tag: str | None
    delete_on_termination: bool
    boot_index: int | None
    reason: Reason | None
    created_at: int
    attached_at: int | None
    closed_at: int | None
    #: None: a server of ours, and Kevel plugs the disk. Else the attachment is external, and the rest of this is known.
    stage: Stage | None = None
    origin: Origin | None = None
    #: What uses the volume, as its client names it: an instance, a host.
    instance_id: str | None = None
    consumer_host: str | None = None
    #: "rw" or "ro"; None: not said.
    mode: str | None = None
    #: The service (a real Nova) that declared it for its user: nobody else releases it once it is connected.
    service_user_id: str | None = None
    #: Its volume is never plugged: it waits for the place of another attachment's, or has lost its own to one (a swap).
    aside: bool = False
    #: The id by which the guest knows the disk, where that is not the volume's: it was swapped in.
    serial: str | None = None

    @property
    def is_external(self) -> bool:
        """Declared by a client for something that is not a server of ours; Kevel plugs nothing for it."""
        return self.stage is not None


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """One host's way to a volume for one attachment."""

    id: str
    attachment_id: str
    volume_id: str
    server_id: str | None
    host: str
    generation: int
    rung: Rung
    hands: Hands
    revision: int
    #: Sealed connection_info; present from the export on.
    connection_info: bytes | None
    #: Size the guest's disk was last seen to have.
    plugged_bytes: int | None
    last_error: Reason | None
    changed_at: int
    #: Of an external attachment's path: by what its consumer connects, as its client gave it.
    connector: dict[str, Any] | None = None
    #: Of an external attachment's path: it has to go, whatever the attachment's goal is.
    dropped: bool = False


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a server's domain is made of."""

    flavor: dict[str, Any]
    image: dict[str, Any]
    root_number: int
    rescue: dict[str, Any] | None
    old_flavor: dict[str, Any] | None


class KeptRoot(msgspec.Struct, frozen=True, kw_only=True):
    """The image in which a shelved server's root disk is kept."""

    image_id: str
    #: Relative to the data directory.
    file: str


class Shelf(msgspec.Struct, frozen=True, kw_only=True):
    """How a server is shelved: from the request for it until it runs again."""

    #: None: its root disk is a volume, which keeps it by itself.
    root: KeptRoot | None
    #: It is to leave its host as soon as its root disk is kept.
    offloads: bool
    #: Its root disk is kept: from now on it is shelved.
    kept: bool = False
    #: Its host has said that nothing of it is left there. Paths may be.
    left: bool = False


class ServerExtras(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a server's users see of how it was asked for and locked."""

    #: Shared by the servers of one request, and the server's place among them.
    reservation_id: str = ""
    launch_index: int = 0
    #: The availability zone that the user asked for; None: any.
    pinned_zone: str | None = None
    lock_reason: str | None = None
    #: Locked from outside its project: its owners cannot unlock it.
    locked_by_admin: bool = False
    #: Addresses by which its users say that it is reached; Kevel does nothing with them.
    access_v4: str = ""
    access_v6: str = ""
    #: The host name that its users chose; "": it follows from the server's name.
    hostname: str = ""
    #: OS-DCF:diskConfig is AUTO: a driver may change the partitions of its root disk. Kevel's never do.
    auto_disk: bool = False
    #: Words that its users have put on it, sorted.
    tags: tuple[str, ...] = ()
    #: The scheduler hints of its request.
    hints: dict[str, Any] = {}
    #: Nova's task_state while the shape that was asked for last comes about.
    task: str | None = None
    #: Which of its root disks it has: each rebuild makes another.
    root_number: int = 0
    #: The image of the rescue disk that it is to boot from; None: it boots from its own.
    rescue: dict[str, Any] | None = None
    #: It was last defined with a rescue disk.
    rescued: bool = False
    #: The flavor that it had, while its new one waits to be confirmed.
    old_flavor: dict[str, Any] | None = None
    #: The shape that it has, while another is wanted: a request for one that fails gives it back.
    before: Shape | None = None
    #: None: it is not shelved, nor on the way there or back.
    shelf: Shelf | None = None
    #: The image that is made of its root disk just now.
    imaging: str | None = None
    #: Why its start fails for good: so its host says as soon as it has made sure that no guest runs.
    doomed: Reason | None = None


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server's row."""

    id: str
    project_id: str
    user_id: str
    name: str
    description: str | None
    flavor: dict[str, Any]
    #: The image as it was when the server was made: {"id", "name", "disk_format", "file", "kernel_file", ...}.
    image: dict[str, Any]
    host: str
    availability_zone: str
    metadata: dict[str, str]
    goal: ServerGoal
    goal_revision: int
    goal_request_id: str
    deadline_at: int
    rung: ServerRung
    revision: int
    wanted_boot: int
    boot: int
    boot_kind: BootKind
    key_name: str | None
    locked: bool
    fault: Reason | None
    created_at: int
    updated_at: int
    launched_at: int | None
    terminated_at: int | None
    deleted_at: int | None
    extras: ServerExtras = ServerExtras()
    #: Raised when its domain has to be made anew: another flavor, image, or rescue disk. And the shape that it has.
    wanted_shape: int = 0
    shape: int = 0

    @property
    def made_of(self) -> Shape:
        """What it is made of, or is to be made of."""
        extras = self.extras
        return Shape(
            flavor=self.flavor,
            image=self.image,
            root_number=extras.root_number,
            rescue=extras.rescue,
            old_flavor=extras.old_flavor,
        )

    @property
    def is_reshaping(self) -> bool:
        """Does its domain have to be made anew?"""
        return self.shape < self.wanted_shape


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, as far as a transaction needs to know. The project is the scope of every look-up (S9)."""

    user_id: str
    project_id: str
    request_id: str
    is_admin: bool = False
    #: The service that calls for this user, as its own token proves.
    service_user_id: str | None = None
