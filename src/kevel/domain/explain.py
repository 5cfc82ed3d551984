"""Why an attachment is where it is: one sentence that a person understands, and what is known of each layer.

Pure: everything is computed from the rows, so an explanation can never disagree with them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Final

import msgspec

from kevel.domain.assignments import DiskSight
from kevel.domain.external import name_consumer
from kevel.domain.ladder import Goal, Hands, Rung, external_target, target_rung
from kevel.domain.model import Attachment, Origin, Path, Reason, Server, ServerGoal, ServerRung, Stage
from kevel.domain.server_life import LEAVES_HOST


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why it is where it is."""

    #: One sentence.
    why: str
    #: Who has to do something: "nobody", "storage", "host", "server", "guest" or "client".
    waits_for: str
    since: int

    @property
    def is_finished(self) -> bool:
        """Is it where it should be?"""
        return self.waits_for == "nobody"


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of a path: what should be so, and what was last seen to be so."""

    #: "record", "export", "connection", "guest_persistent" or "guest_live".
    name: str
    #: "present" or "absent"; "not_needed" where it has no effect; "no_guest" where no guest should run. For the record,
    #: a rung.
    desired: str
    #: The same, or "unknown": an act may have taken effect that nobody has seen yet.
    observed: str
    #: When it was seen so, and by whom ("control", "host:NAME", "storage:NAME"); None: never.
    at: int | None = None
    by: str | None = None
    #: "record", "answer" (to an act) or "census".
    how: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The last recorded act that made or undid a rung."""

    present: bool
    at: int
    by: str


class Sights(msgspec.Struct, frozen=True, kw_only=True):
    """What comparisons with reality have seen of a path."""

    #: What the host's newest census saw, and when.
    disk: DiskSight | None = None
    disk_at: int | None = None
    #: Whether the storage listed the export when it was last compared; None: it is not compared.
    export: bool | None = None
    export_at: int | None = None
    storage: str = ""


def explain(
    attachment: Attachment,
    path: Path | None,
    server: Server | None,
    *,
    host_silent: bool,
    volume_made: bool = True,
    withheld: bool = False,
) -> Explanation:
    """Why the attachment is where it is. `path` is its unreleased one; None: there is none, and it is closed.

    `volume_made` is False for a volume that a server is made with, and that is still to be made; `withheld` is True for
    one that gets another image.
    """
    if attachment.is_external and attachment.closed_at is None:
        return _explain_external(attachment, path)
    if path is None and attachment.closed_at is None:
        why = "The volume is kept for its server, which is shelved and has no host; it is attached when it runs again."
        return Explanation(why=why, waits_for="nobody", since=attachment.goal_at)
    if path is None or attachment.closed_at is not None:
        return Explanation(
            why=_closed(attachment), waits_for="nobody", since=attachment.closed_at or attachment.goal_at
        )
    if attachment.aside and attachment.goal is Goal.ATTACHED:
        why = "The volume waits for another one's place in the guest, and is being filled with its contents."
        return Explanation(why=why, waits_for="host", since=attachment.goal_at)
    if attachment.goal is Goal.ATTACHED and path.rung is Rung.PLUGGED:
        since = attachment.attached_at or path.changed_at
        return Explanation(why=_attached(attachment, server), waits_for="nobody", since=since)
    if attachment.goal is Goal.ATTACHED and not volume_made:
        why = f"The server waits for its volume to be made{_failed(attachment.reason)}."
        return Explanation(why=why, waits_for="storage", since=attachment.goal_at)
    if attachment.goal is Goal.ATTACHED and withheld:
        why = "The volume gets the image that its server is rebuilt with; the server has it again after that."
        return Explanation(why=why, waits_for="storage", since=attachment.goal_at)
    stays = server is None or server.goal not in LEAVES_HOST
    climb = _climbing if attachment.goal is Goal.ATTACHED and stays else _descending
    waits_for, why = climb(attachment, path, server, host_silent)
    return Explanation(why=why, waits_for=waits_for, since=max(attachment.goal_at, path.changed_at))


def _closed(attachment: Attachment) -> str:
    if attachment.is_external and attachment.goal_by == "user":
        return f"{_declared(attachment)} was ended by its client; nothing is left of it."
    if attachment.established:
        return "The volume is detached, and nothing is left of the attachment."
    because = "" if attachment.reason is None else f" ({_first(attachment.reason)})"
    if attachment.goal_by == "rollback" or because:
        return f"The attach failed{because} and was undone; nothing is left of it."
    return "The volume was detached again before it had been attached; nothing is left of it."


def _explain_external(attachment: Attachment, path: Path | None) -> Explanation:
    """Kevel's share is the export; for the rest, its client is taken at its word."""
    since = attachment.goal_at if path is None else max(attachment.goal_at, path.changed_at)
    waits_for, why = _external(attachment, path)
    return Explanation(why=f"{_declared(attachment)} {why}.", waits_for=waits_for, since=since)


def _declared(attachment: Attachment) -> str:
    consumer = name_consumer(attachment) if attachment.instance_id or attachment.consumer_host else "no name yet"
    api = "the attachments API" if attachment.origin is Origin.ATTACHMENT else "an action of the volume"
    called = "" if attachment.origin in (None, Origin.ATTACHMENT) else f", {attachment.origin.value}"
    return f"The external attachment of {consumer}, declared through {api}{called},"


def _external(attachment: Attachment, path: Path | None) -> tuple[str, str]:
    failed = "" if path is None else _failed(path.last_error)
    if path is not None and path.dropped:
        return "storage", f"waits for the storage to shut host {path.host or 'of no name'} out{failed}"
    if path is not None and path.rung is not Rung.EXPORTED:
        return "storage", f"waits for the storage to let host {path.host or 'of no name'} in{failed}"
    because = _failed(attachment.reason)
    if attachment.stage is Stage.ATTACHED:
        return "nobody", "is attached, as its client says; Kevel plugs nothing for it"
    if attachment.stage is Stage.DETACHING:
        return "client", "is being detached, as its client says, and waits for its client to end it"
    if path is None:
        return "client", f"has claimed the volume and waits for its client to connect it, or to give it up{because}"
    return "client", "is let in by the storage and waits for its client to say that it is attached"


def _attached(attachment: Attachment, server: Server | None) -> str:
    if server is not None and not server.rung.has_process:
        return "The volume is attached: the disk is in the definition of its server, which does not run."
    if attachment.goal_by == "refusal":
        because = "" if attachment.reason is None else f": {_first(attachment.reason)}"
        return f"The volume is still attached, since the detach that was asked for did not succeed{because}."
    return "The volume is attached: the guest has the disk."


def _climbing(attachment: Attachment, path: Path, server: Server | None, host_silent: bool) -> tuple[str, str]:
    failed = _failed(path.last_error or attachment.reason)
    if path.hands is Hands.CONTROL:
        return "storage", f"The attach waits for the storage to let host {path.host} in{failed}."
    if host_silent:
        return "host", f"The attach waits for host {path.host}, which does not answer{failed}."
    if server is not None and server.rung < ServerRung.DEFINED:
        return "server", f"The attach waits for its server to be built on host {path.host}{failed}."
    if path.rung is Rung.EXPORTED:
        return "host", f"The attach waits for host {path.host} to connect the volume and plug the disk{failed}."
    return "host", f"The attach waits for host {path.host} to plug the disk{failed}."


def _descending(attachment: Attachment, path: Path, server: Server | None, host_silent: bool) -> tuple[str, str]:
    if attachment.goal_by == "server":
        what = "The volume is being freed, since its server is being deleted,"
    elif attachment.goal_by == "rollback":
        because = "" if attachment.reason is None else f" ({_first(attachment.reason)})"
        what = f"The attach failed{because} and is being undone, which"
    elif attachment.goal is Goal.ATTACHED:
        what = "The volume leaves the host with its server, which is being shelved, and"
    else:
        what = "The detach"
    joint = " and" if attachment.goal_by == "server" else ""
    waits_for, rest = _letting_go(attachment, path, server, host_silent)
    return waits_for, f"{what}{joint} {rest}."


def _letting_go(attachment: Attachment, path: Path, server: Server | None, host_silent: bool) -> tuple[str, str]:
    failed = _failed(path.last_error)
    if path.hands is Hands.CONTROL:
        return "storage", f"waits for the storage to shut host {path.host} out{failed}"
    if host_silent:
        return "host", f"waits for host {path.host}, which does not answer{failed}"
    if server is not None and server.goal in LEAVES_HOST:
        return "host", f"waits for host {path.host} to remove the server{failed}"
    if path.rung is not Rung.PLUGGED:
        return "host", f"waits for host {path.host} to let go of the volume{failed}"
    if server is not None and not server.rung.has_process:
        return "host", f"waits for host {path.host} to take the disk out of the server's definition{failed}"
    if attachment.reason is not None and attachment.reason.code == "guest_refused":
        return "guest", "waits for the guest, which has not let go of the disk so far and is asked again and again"
    return "guest", f"waits for the guest to let go of the disk{failed}"


def _failed(error: Reason | None) -> str:
    return "" if error is None else f"; the last try failed: {_first(error)}"


def _first(reason: Reason) -> str:
    """The first sentence of a reason, to stand inside another."""
    return reason.message.split(". ")[0].rstrip(".")


_NAMES: Final = {Rung.EXPORTED: "export", Rung.CONNECTED: "connection"}


def describe_layers(
    attachment: Attachment,
    path: Path,
    server: Server | None,
    *,
    effect_free: Container[Rung],
    answers: Mapping[Rung, Answer],
    sights: Sights,
    withheld: bool = False,
) -> tuple[Layer, ...]:
    """Each layer of a path, from the record to the guest."""
    wanted = server is None or server.goal not in LEAVES_HOST
    target = target_rung(attachment.goal, server_wanted=wanted, withheld=withheld, aside=attachment.aside)
    if attachment.is_external:
        target = external_target(dropped=path.dropped)
    newest = max(answers.values(), key=lambda one: one.at, default=None)
    layers = [
        Layer(
            name="record",
            desired=target.name.lower(),
            observed=path.rung.name.lower(),
            at=path.changed_at,
            by=None if newest is None else newest.by,
            how="record",
        )
    ]
    for rung in _NAMES:
        if rung in effect_free:
            layers.append(Layer(name=_NAMES[rung], desired="not_needed", observed="not_needed"))
        else:
            layers.append(_by_answer(_NAMES[rung], rung, path, target, effect_free, answers))
    if layers[1].observed != "not_needed" and sights.export is not None and _newer(sights.export_at, layers[1].at):
        seen = {"observed": _presence(sights.export), "at": sights.export_at, "by": f"storage:{sights.storage}"}
        layers[1] = msgspec.structs.replace(layers[1], **seen, how="census")
    if attachment.is_external:
        # What its consumer does with the export, nobody here can see.
        return tuple(layers[:2])
    return (*layers, *_guest_layers(path, server, target, effect_free, answers, sights))


def _guest_layers(
    path: Path,
    server: Server | None,
    target: Rung,
    effect_free: Container[Rung],
    answers: Mapping[Rung, Answer],
    sights: Sights,
) -> tuple[Layer, Layer]:
    kept = _by_answer("guest_persistent", Rung.PLUGGED, path, target, effect_free, answers)
    live = msgspec.structs.replace(kept, name="guest_live")
    if kept.desired == "present" and server is not None and server.goal not in (ServerGoal.RUNNING, ServerGoal.PAUSED):
        live = msgspec.structs.replace(live, desired="no_guest")
    if kept.observed == "present" and server is not None and not server.rung.has_process:
        live = msgspec.structs.replace(live, observed="no_guest")
    disk = sights.disk
    if disk is None or disk.revision != path.revision:
        return kept, live
    seen = {"at": sights.disk_at, "by": f"host:{path.host}", "how": "census"}
    kept = msgspec.structs.replace(kept, observed=_presence(disk.persistent), **seen)
    word = "no_guest" if disk.live is None else _presence(disk.live)
    return kept, msgspec.structs.replace(live, observed=word, **seen)


def _by_answer(
    name: str, rung: Rung, path: Path, target: Rung, effect_free: Container[Rung], answers: Mapping[Rung, Answer]
) -> Layer:
    """The layer as the last act on it was answered. An effect can exist one rung above the recorded one."""
    answer = answers.get(rung)
    observed = _presence(path.rung >= rung)
    above = next((one for one in Rung if one > path.rung and one not in effect_free), None)
    if rung is above and (target >= rung or answer is None or answer.present):
        observed = "unknown"
    at, by, how = (None, None, None) if answer is None else (answer.at, answer.by, "answer")
    return Layer(name=name, desired=_presence(target >= rung), observed=observed, at=at, by=by, how=how)


def _presence(there: bool) -> str:
    return "present" if there else "absent"


def _newer(at: int | None, than: int | None) -> bool:
    return at is not None and (than is None or at > than)


def collect_answers(moves: Iterable[tuple[Rung, Rung, int, str]]) -> dict[Rung, Answer]:
    """The last act on each rung, from a path's moves in order: (from, to, at, by)."""
    answers: dict[Rung, Answer] = {}
    for before, after, at, by in moves:
        answers[max(before, after)] = Answer(present=after > before, at=at, by=by)
    return answers
