"""The types of what /kevel/v1 answers. Times are microseconds since the epoch, UTC."""

from __future__ import annotations

from typing import Any, Final, Literal

from kevel.api.answers import Answer, Link, name_answer, name_list

RungName = Literal["released", "reserved", "exported", "connected", "plugged"]


class Version(Answer):
    """The one version."""

    id: str
    status: str
    links: list[Link]


class Why(Answer):
    """The reason for something."""

    code: str
    message: str
    at: int


class LayerView(Answer, kw_only=True):
    """What should be so of one layer, and what was last seen."""

    name: Literal["record", "export", "connection", "guest_persistent", "guest_live"]
    desired: str
    observed: str
    at: int | None
    by: str | None
    how: Literal["record", "answer", "census"] | None


class PathSummary(Answer, kw_only=True):
    """One host's way to the volume."""

    id: str
    host: str
    generation: int
    rung: RungName
    hands: Literal["control", "host"]
    changed_at: int
    last_error: Why | None


class PathView(PathSummary, kw_only=True):
    """The same with its layers."""

    layers: list[LayerView]


class External(Answer, kw_only=True):
    """What a client has declared of something that is not a server of ours."""

    origin: Literal["attachment", "os-reserve", "os-initialize_connection", "os-attach"]
    instance_id: str | None
    host: str | None
    mode: Literal["rw", "ro"] | None


class AttachmentSummary(Answer, kw_only=True):
    """An attachment, and why it is where it is."""

    id: str
    volume_id: str
    server_id: str | None
    project_id: str
    status: Literal["reserved", "attaching", "attached", "detaching", "detached"]
    goal: Literal["attached", "detached"]
    goal_by: Literal["user", "rollback", "refusal", "server"]
    goal_at: int
    goal_request_id: str
    deadline_at: int
    established: bool
    device: str | None
    #: None: a server of ours. Else the call that declared it, and what its client says.
    external: External | None
    reason: Why | None
    created_at: int
    attached_at: int | None
    closed_at: int | None
    why: str
    waits_for: Literal["nobody", "storage", "host", "server", "guest", "client"]
    since: int
    finished: bool
    overdue: bool
    next_try_at: int | None
    next_try_within_s: float | None
    paths: list[PathSummary]


class AttachmentView(AttachmentSummary, kw_only=True):
    """The same with the layers of each path."""

    paths: list[PathView]  # type: ignore[assignment]


class JournalLine(Answer, kw_only=True):
    """One transition."""

    seq: int
    at: int
    subject: str
    subject_id: str
    what: str
    before: str
    after: str
    revision: int
    generation: int | None
    actor: str
    request_id: str
    volume_id: str | None
    server_id: str | None
    attachment_id: str | None
    took_us: int | None
    detail: dict[str, Any] | None


class CensusView(Answer):
    """The newest comparison with a host or a back end."""

    subject: str
    at: int
    counted: dict[str, int]


class FindingView(Answer, kw_only=True):
    """One difference between records and reality, and what is done about it."""

    subject: str
    kind: str
    key: str
    volume_id: str | None
    server_id: str | None
    attachment_id: str | None
    found_at: int
    text: str
    remedy: str
    needs_person: bool


class ExaminationView(Answer, kw_only=True):
    """How records and reality agree."""

    at: int
    censuses: list[CensusView]
    findings: list[FindingView]
    needs_person: bool


class SwapView(Answer, kw_only=True):
    """Another volume on its way to the place of an attached one."""

    id: str
    attachment_id: str
    server_id: str
    old_volume_id: str
    new_volume_id: str
    state: Literal["copying", "pivoting", "swapped", "failed", "cancelled"]
    done_bytes: int
    total_bytes: int
    reason: Why | None
    created_at: int
    deadline_at: int
    finished_at: int | None


SWAP: Final = name_answer("swap", SwapView)
VERSIONS: Final = name_answer("versions", list[Version])
ATTACHMENT: Final = name_answer("attachment", AttachmentView)
ATTACHMENTS: Final = name_list("attachments", AttachmentSummary)
SERVER_ATTACHMENTS: Final = name_answer("attachments", list[AttachmentView])
JOURNAL: Final = name_answer("journal", list[JournalLine])
EXAMINATION: Final = name_answer("examination", ExaminationView)
