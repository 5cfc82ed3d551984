"""One server and one volume under hand: requests, the control plane's steps, and what a host reports of its own."""

from __future__ import annotations

from typing import Any

import msgspec

from kevel.domain.assignments import Failure, PathReport, ServerReport
from kevel.domain.ladder import Hands, Rung, next_step, target_rung
from kevel.domain.model import GIB, Actor, Attachment, Path, Reason, Server, ServerGoal, ServerRung, Volume
from kevel.store.attachments import find_open, load_attachment, load_path
from kevel.store.path_moves import NewAttachment, ask_detach, give_up, move_path, open_attachment
from kevel.store.path_reports import apply_path_report
from kevel.store.server_moves import set_server_goal
from kevel.store.server_rows import apply_server_report
from kevel.store.servers import load_server
from kevel.store.transactions import Tx
from kevel.store.volumes import load_volume
from tests.things import ACTOR, SECOND, T0

EFFECTFUL: frozenset[Rung] = frozenset()
FREE = frozenset({Rung.EXPORTED, Rung.CONNECTED})
SEALED = b"sealed connection_info"


def seal(volume: Volume, path: Path) -> bytes:
    return SEALED


class Life:
    """Everything happens in the one transaction, a second apart."""

    def __init__(self, tx: Tx, free: frozenset[Rung] = EFFECTFUL) -> None:
        self.tx = tx
        self.free = free
        self.at = T0
        self.requests = 0
        self.ids: list[str] = []

    def tick(self) -> int:
        self.at += SECOND
        return self.at

    def actor(self) -> Actor:
        self.requests += 1
        return msgspec.structs.replace(ACTOR, request_id=f"req-{self.requests}")

    @property
    def attachment(self) -> Attachment:
        """The newest, open or closed."""
        found = load_attachment(self.tx, self.ids[-1])
        assert found is not None
        return found

    @property
    def path(self) -> Path:
        """The newest attachment's path, released or not."""
        found = load_path(self.tx, f"path-{self.ids[-1]}")
        assert found is not None
        return found

    @property
    def server(self) -> Server:
        found = load_server(self.tx, "server")
        assert found is not None
        return found

    @property
    def volume(self) -> Volume:
        found = load_volume(self.tx, "volume")
        assert found is not None
        return found

    def attach(self, *, delete_on_termination: bool = False) -> None:
        name = f"a{len(self.ids)}"
        self.ids.append(name)
        new = NewAttachment(
            attachment_id=name,
            claim_id=f"claim-{name}",
            path_id=f"path-{name}",
            server_id="server",
            host="here",
            device="/dev/sdb",
            unit=1,
            tag=None,
            delete_on_termination=delete_on_termination,
            deadline_at=self.at + 120 * SECOND,
        )
        sealing = seal if Rung.EXPORTED in self.free else None
        open_attachment(self.tx, new, self.volume, actor=self.actor(), at=self.tick(), seal_export=sealing)

    def detach(self) -> None:
        at = self.tick()
        ask_detach(self.tx, self.attachment, actor=self.actor(), at=at, deadline_at=at + 60 * SECOND)

    def delete_server(self) -> None:
        at = self.tick()
        set_server_goal(
            self.tx, self.server, ServerGoal.DELETED, actor=self.actor(), at=at, deadline_at=at + 300 * SECOND
        )

    def host_removed_server(self) -> bool:
        """The host says that nothing of the server is left on it."""
        server = self.server
        report = ServerReport(
            server_id=server.id,
            revision=server.revision,
            goal_revision=server.goal_revision,
            rung=ServerRung.PLACED,
            boot=server.boot,
        )
        return apply_server_report(self.tx, "here", 1, report, self.tick())

    def report(self, host: str = "here", epoch: int = 1, **changes: Any) -> bool:
        """A report of the path as it is, with changes."""
        path = self.path
        report = PathReport(
            path_id=path.id,
            revision=path.revision,
            goal_revision=self.attachment.goal_revision,
            rung=path.rung,
            hands=path.hands,
            plugged_bytes=path.plugged_bytes,
        )
        at = self.tick()
        return apply_path_report(
            self.tx,
            host,
            epoch,
            msgspec.structs.replace(report, **changes),
            at=at,
            refusal_deadline_at=at + 120 * SECOND,
            effect_free={"sim": self.free},
        )

    def fail(self, code: str = "guest_refused", *, final: bool = True, **changes: Any) -> bool:
        """The host's step did not succeed."""
        reason = Reason(code=code, message="It would not.", at=self.at)
        return self.report(failure=Failure(reason=reason, final=final), **changes)

    def give_up(self, code: str = "export_refused") -> None:
        """The control plane's step did not succeed, for good."""
        at = self.tick()
        reason = Reason(code=code, message="It would not.", at=at)
        give_up(self.tx, self.attachment, reason, at=at, actor="control", deadline_at=at + 60 * SECOND)

    def step(self) -> bool:
        """The next step of whoever holds the path; False when there is none to make."""
        path = self.path
        wanted = self.server.goal is not ServerGoal.DELETED
        target = target_rung(self.attachment.goal, server_wanted=wanted)
        step = next_step(path.rung, path.hands, target, self.free)
        if step is None:
            return False
        if path.hands is Hands.HOST:
            if not wanted and self.server.rung is not ServerRung.PLACED:
                return self.host_removed_server()
            plugged = GIB if step.rung is Rung.PLUGGED else None
            return self.report(rung=step.rung, hands=step.hands, plugged_bytes=plugged)
        info = SEALED if "export_volume" in step.acts else None
        move_path(
            self.tx, path, rung=step.rung, hands=step.hands, actor="control", at=self.tick(), connection_info=info
        )
        return True

    def settle(self) -> None:
        """Until nobody has anything to do."""
        for _ in range(12):
            if not self.step():
                return
        raise AssertionError("it has no end")

    def is_open(self) -> bool:
        return find_open(self.tx, server_id="server", volume_id="volume") is not None
