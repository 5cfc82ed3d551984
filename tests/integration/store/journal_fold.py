"""What an attachment's journal amounts to, and the same read from its rows (S12)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kevel.domain.ladder import Goal, Hands, Rung
from kevel.store.attachments import live_paths, load_attachment
from kevel.store.journal import Entry, of_attachment
from kevel.store.transactions import Tx

#: What a client says of an external attachment.
_TOLD = ("instance_id", "consumer_host", "mode")


class PathState(msgspec.Struct, frozen=True, kw_only=True):
    """As much of a path as its journal holds."""

    rung: Rung
    hands: Hands
    revision: int
    generation: int
    error_code: str | None
    dropped: bool = False


class AttachmentState(msgspec.Struct, frozen=True, kw_only=True):
    """As much of an attachment as its journal holds; no path: it was released, and the attachment is closed."""

    goal: Goal
    goal_revision: int
    goal_request_id: str
    goal_by: str
    established: bool
    device: str | None
    stage: str | None
    told: dict[str, object]
    paths: dict[str, PathState]


def fold(entries: Sequence[Entry]) -> AttachmentState:
    """Play the journal from the start. Each line must follow from the one before it."""
    first, *rest = entries
    assert (first.what, first.before, first.detail is not None) == ("goal", "none", True)
    state = AttachmentState(
        goal=Goal(first.after),
        goal_revision=first.revision,
        goal_request_id=first.request_id,
        goal_by="user",
        established=(first.detail or {}).get("established", False),
        device=(first.detail or {})["device"],
        stage=(first.detail or {}).get("stage"),
        told={name: (first.detail or {}).get(name) for name in _TOLD},
        paths={},
    )
    for entry in rest:
        if entry.what == "goal":
            assert entry.before == state.goal.value
            assert entry.revision == state.goal_revision + 1
            state = msgspec.structs.replace(
                state,
                goal=Goal(entry.after),
                goal_revision=entry.revision,
                goal_request_id=entry.request_id,
                goal_by=(entry.detail or {})["by"],
            )
        elif entry.what == "stage":
            assert (entry.before, entry.revision) == (state.stage, state.goal_revision)
            told = entry.detail or {}
            state = msgspec.structs.replace(
                state,
                stage=entry.after,
                device=told["device"],
                established=told["established"],
                told={name: told[name] for name in _TOLD},
            )
        elif entry.subject == "path":
            path = _fold_path(state.paths.get(entry.subject_id), entry)
            there = path.rung is Rung.PLUGGED and state.goal_by != "rollback"
            if state.stage is not None:
                there = path.rung is Rung.EXPORTED and entry.what == "rung" and state.goal is Goal.ATTACHED
            established = state.established or there
            paths = state.paths | {entry.subject_id: path}
            state = msgspec.structs.replace(state, paths=paths, established=established)
    left = {path_id: path for path_id, path in state.paths.items() if path.rung is not Rung.RELEASED}
    return msgspec.structs.replace(state, paths=left)


def _fold_path(path: PathState | None, entry: Entry) -> PathState:
    assert entry.generation is not None
    if path is None:
        path = PathState(
            rung=Rung.RELEASED, hands=Hands.CONTROL, revision=0, generation=entry.generation, error_code=None
        )
    assert entry.generation == path.generation, "S6: a path keeps its generation"
    if entry.what == "error":
        assert entry.before == entry.after == path.rung.name.lower()
        return msgspec.structs.replace(path, error_code=(entry.detail or {})["code"])
    if entry.what == "retry":
        assert entry.before == entry.after == path.rung.name.lower()
        return path
    assert entry.revision in (path.revision, path.revision + 1)
    path = msgspec.structs.replace(path, revision=entry.revision, error_code=None)
    if entry.what == "rung":
        assert entry.before == path.rung.name.lower()
        rung = Rung[entry.after.upper()]
        assert abs(rung - path.rung) == 1, "one line a rung"
        hands = Hands((entry.detail or {}).get("hands", path.hands.value))
        return msgspec.structs.replace(path, rung=rung, hands=hands)
    if entry.what == "hands":
        assert entry.before == path.hands.value
        return msgspec.structs.replace(path, hands=Hands(entry.after))
    if entry.what == "dropped":
        return msgspec.structs.replace(path, dropped=True)
    assert entry.what == "size", entry
    return path


def read(tx: Tx, attachment_id: str) -> AttachmentState:
    """The same from the rows themselves."""
    attachment = load_attachment(tx, attachment_id)
    assert attachment is not None
    return AttachmentState(
        goal=attachment.goal,
        goal_revision=attachment.goal_revision,
        goal_request_id=attachment.goal_request_id,
        goal_by=attachment.goal_by,
        established=attachment.established,
        device=attachment.device,
        stage=None if attachment.stage is None else attachment.stage.value,
        told={name: getattr(attachment, name) for name in _TOLD},
        paths={
            path.id: PathState(
                rung=path.rung,
                hands=path.hands,
                revision=path.revision,
                generation=path.generation,
                error_code=None if path.last_error is None else path.last_error.code,
                dropped=path.dropped,
            )
            for path in live_paths(tx, attachment.id)
        },
    )


def assert_equal(tx: Tx, attachment_id: str) -> None:
    """S12."""
    entries = of_attachment(tx, attachment_id)
    assert fold(entries) == read(tx, attachment_id)
    times = [entry.at for entry in entries]
    assert times == sorted(times)
