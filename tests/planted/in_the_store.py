"""Bugs of the records: compare-and-sets that compare nothing, rows that come too early or never, lost commits."""

from __future__ import annotations

from typing import Any

from msgspec import structs
from sqlalchemy import bindparam, update
from sqlalchemy.exc import DBAPIError

from kevel.domain.errors import Invalid
from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.model import ServerGoal, ServerRung
from kevel.store import path_moves, path_rows, server_rows
from kevel.store.actions import finish_action
from kevel.store.attachments import load_attachment, load_path, open_of_server
from kevel.store.batch import Batcher
from kevel.store.hosts import current_epoch
from kevel.store.schema.attachments import claims
from kevel.store.schema.volumes import volumes
from kevel.store.servers import load_server
from tests.planted.planting import Bug, Planting, bug

MOVES = "kevel.store.path_moves:"
ROWS = "kevel.store.path_rows:"


@bug("facts 1, gap 5: a path's rung is written without a look at the current one; a late report undoes a newer move")
def skip_the_compare_and_set_of_a_path(planting: Planting) -> None:
    def make(apply: Any) -> Any:
        def trust(tx: Any, host: str, epoch: int, report: Any, **more: Any) -> bool:
            path = load_path(tx, report.path_id)
            if path is not None and path.hands is Hands.HOST and path.revision != report.revision:
                planting.bite()
                report = structs.replace(report, revision=path.revision)
            return bool(apply(tx, host, epoch, report, **more))

        return trust

    planting.replace("kevel.store.path_reports:apply_path_report", make)


@bug("a goal is written without a look at the one that it replaces; an old request's failure turns a newer one round")
def skip_the_compare_and_set_of_a_goal(planting: Planting) -> None:
    def make(note: Any) -> Any:
        def trust(tx: Any, path: Any, report: Any, at: int, refusal_deadline_at: int) -> None:
            attachment = load_attachment(tx, path.attachment_id)
            assert attachment is not None
            note(tx, path, report, at, refusal_deadline_at)
            if report.failure.final and report.goal_revision != attachment.goal_revision:
                planting.bite()
                actor, reason = f"host:{path.host}", report.failure.reason
                path_moves.give_up(tx, attachment, reason, at=at, actor=actor, deadline_at=refusal_deadline_at)

        return trust

    planting.replace("kevel.store.path_reports:_note_failure", make)


@bug("a server's row is written without a look at its revision; what an agent saw before a request undoes the request")
def skip_the_compare_and_set_of_a_server(planting: Planting) -> None:
    def make(apply: Any) -> Any:
        def trust(tx: Any, host: str, epoch: int, report: Any, at: int) -> bool:
            server = load_server(tx, report.server_id)
            if server is not None and server.revision != report.revision:
                planting.bite()
                report = structs.replace(report, revision=server.revision, goal_revision=server.goal_revision)
            return bool(apply(tx, host, epoch, report, at))

        return trust

    planting.replace("kevel.store.server_rows:apply_server_report", make)


@bug("what an agent's earlier life still had on the wire is believed (E.10: the message names the old host)")
def trust_a_report_of_an_earlier_life(planting: Planting) -> None:
    def make(current_epoch: Any) -> Any:
        class AnyEpoch(int):
            def __ne__(self, other: object) -> bool:
                if int(self) != int(str(other)):
                    planting.bite()
                return False

        def any_epoch(tx: Any, name: str) -> Any:
            epoch = current_epoch(tx, name)
            return None if epoch is None else AnyEpoch(epoch)

        return any_epoch

    def make_apply(apply: Any) -> Any:
        def trust(tx: Any, host: str, epoch: int, report: Any, **more: Any) -> bool:
            path = load_path(tx, report.path_id)
            if path is not None and path.hands is Hands.HOST and epoch != current_epoch(tx, host):
                report = structs.replace(report, revision=path.revision)
            return bool(apply(tx, host, epoch, report, **more))

        return trust

    def make_server(apply: Any) -> Any:
        def trust(tx: Any, host: str, epoch: int, report: Any, at: int) -> bool:
            server = load_server(tx, report.server_id)
            if server is not None and epoch != current_epoch(tx, host):
                report = structs.replace(report, revision=server.revision, goal_revision=server.goal_revision)
            return bool(apply(tx, host, epoch, report, at))

        return trust

    planting.replace("kevel.store.path_reports:apply_path_report", make_apply)
    planting.replace("kevel.store.server_rows:apply_server_report", make_server)
    planting.replace("kevel.store.hosts:current_epoch", make)


@bug("a volume's next path gets the generation of the last one, so late effects of both look alike")
def reuse_a_generation(planting: Planting) -> None:
    planting.restate(
        ROWS + "_NEXT_GENERATION",
        lambda statement: (
            update(volumes)
            .where(volumes.c.id == bindparam("of_id"))
            .values(generation=1)
            .returning(volumes.c.generation)
        ),
    )


@bug("facts 1, gap 2, error point 3 (measured): the attachment is forgotten and the volume stays reserved for ever")
def never_release_the_claim(planting: Planting) -> None:
    planting.restate(MOVES + "_RELEASE", lambda statement: statement.where(claims.c.id == ""))


@bug("the volume is free as soon as a detach is asked for, not when the guest has let go (Cinder: E.1, `available`)")
def release_the_claim_when_a_detach_is_asked(planting: Planting) -> None:
    def make(ask_detach: Any) -> Any:
        def release(tx: Any, attachment: Any, *, at: int, **more: Any) -> None:
            ask_detach(tx, attachment, at=at, **more)
            planting.bite()
            held = update(claims).where(claims.c.volume_id == attachment.volume_id, claims.c.live == 1)
            held = held.where(claims.c.holder == attachment.server_id)
            tx.execute(held.values(released_at=at, live=None))

        return release

    planting.replace(MOVES + "ask_detach", make)


@bug("the race of Nova's blog (E.2): the volume is in-use before connection_info has reached the record")
def lose_connection_info_at_the_handover(planting: Planting) -> None:
    def make(move_path: Any) -> Any:
        def forget(tx: Any, path: Any, *, rung: Rung, connection_info: Any = None, **more: Any) -> None:
            if connection_info is not None:
                planting.bite()
            move_path(tx, path, rung=rung, connection_info=None, **more)

        return forget

    planting.replace(MOVES + "move_path", make)


@bug(
    "a guest's refusal is told, and the goal stays `detached`: in-use no more, and not free (E.1, `detaching` for ever)"
)
def never_flip_after_a_refusal(planting: Planting) -> None:
    def make(give_up: Any) -> Any:
        def wait(tx: Any, attachment: Any, reason: Any, *, at: int, **more: Any) -> None:
            if attachment.goal is Goal.DETACHED:
                planting.bite()
                path_moves.keep_waiting(tx, attachment, reason, at=at)
            else:
                give_up(tx, attachment, reason, at=at, **more)

        return wait

    planting.replace(MOVES + "give_up", make)


@bug("each refusal turns the goal round, a rollback's too: the attachment goes to and fro")
def flip_after_each_failure(planting: Planting) -> None:
    def make(give_up: Any) -> Any:
        def flip(tx: Any, attachment: Any, reason: Any, *, at: int, actor: str, deadline_at: int) -> None:
            attached = attachment.goal is Goal.ATTACHED
            server = None if attachment.server_id is None else load_server(tx, attachment.server_id)
            if attachment.goal_by == "user" or (server is not None and server.goal is ServerGoal.DELETED):
                give_up(tx, attachment, reason, at=at, actor=actor, deadline_at=deadline_at)
                return
            planting.bite()
            path_moves.keep_waiting(tx, attachment, reason, at=at)
            goal, by = (Goal.DETACHED, "rollback") if attached else (Goal.ATTACHED, "refusal")
            path_moves.set_goal(
                tx,
                attachment,
                goal,
                by=by,
                request_id=attachment.goal_request_id,
                actor=actor,
                at=at,
                deadline_at=deadline_at,
                reason=reason,
            )

        return flip

    planting.replace(MOVES + "give_up", make)


@bug("a failure of the plug never ends the attach: `attaching` for ever (E.1)")
def never_roll_back(planting: Planting) -> None:
    def make(give_up: Any) -> Any:
        def stay(tx: Any, attachment: Any, reason: Any, *, at: int, **more: Any) -> None:
            if attachment.goal is Goal.ATTACHED and not attachment.established:
                planting.bite()
                path_moves.keep_waiting(tx, attachment, reason, at=at)
            else:
                give_up(tx, attachment, reason, at=at, **more)

        return stay

    planting.replace(MOVES + "give_up", make)


@bug("a server whose start fails loses its volumes (error point 10, measured: what was established is deleted)")
def give_an_established_attachment_away(planting: Planting) -> None:
    def make(note_failure: Any) -> Any:
        def roll_back(tx: Any, path: Any, report: Any, at: int, refusal_deadline_at: int) -> None:
            note_failure(tx, path, report, at, refusal_deadline_at)
            attachment = load_attachment(tx, path.attachment_id)
            assert attachment is not None
            if report.failure.final and attachment.established and attachment.goal is Goal.ATTACHED:
                planting.bite()
                _set_rolled_back(tx, attachment, report.failure.reason, at)

        return roll_back

    def make_server(note_failure: Any) -> Any:
        def drop(tx: Any, server: Any, report: Any, *, actor: str, at: int) -> None:
            note_failure(tx, server, report, actor=actor, at=at)
            if server.goal is ServerGoal.DELETED or not report.failure.final:
                return
            for attachment in open_of_server(tx, server.id):
                if attachment.goal is Goal.ATTACHED:
                    planting.bite()
                    _set_rolled_back(tx, attachment, report.failure.reason, at)

        return drop

    planting.replace("kevel.store.path_reports:_note_failure", make)
    planting.replace("kevel.store.server_rows:_note_failure", make_server)


def _set_rolled_back(tx: Any, attachment: Any, reason: Any, at: int) -> None:
    path_moves.set_goal(
        tx,
        attachment,
        Goal.DETACHED,
        by="rollback",
        request_id=attachment.goal_request_id,
        actor="control",
        at=at,
        deadline_at=at + 60_000_000,
        reason=reason,
    )


@bug("the action of an attach is never closed: the user waits for ever for what is done")
def never_finish_an_action(planting: Planting) -> None:
    def make(finish_action: Any) -> Any:
        def skip(tx: Any, *, action: str, **more: Any) -> None:
            if action == "attach_volume" and "error" not in more:
                planting.bite()
                return
            finish_action(tx, action=action, **more)

        return skip

    planting.replace("kevel.store.actions:finish_action", make)


@bug("moves downwards are not written into the journal: history cannot be folded into the state (S12)")
def skip_a_journal_entry(planting: Planting) -> None:
    def make(journal_rungs: Any) -> Any:
        def skip(tx: Any, path: Any, before: Rung, after: Rung, **more: Any) -> None:
            if after is Rung.CONNECTED and before is Rung.PLUGGED:
                planting.bite()
                return
            journal_rungs(tx, path, before, after, **more)

        return skip

    planting.replace(ROWS + "journal_rungs", make)


@bug("wake-ups of the control plane are lost, and the sweep that should make up for it finds nothing")
def lose_wake_ups_without_a_sweep(planting: Planting) -> None:
    def make(wake: Any) -> Any:
        def lose(tx: Any, kind: str, key: str) -> None:
            if kind == "path":
                planting.bite()
            else:
                wake(tx, kind, key)

        return lose

    planting.replace("kevel.store.transactions:Tx.wake", make)
    planting.replace("kevel.store.attachments:paths_in_control", lambda find: lambda tx: [])


@bug("the sweep forgets what the control plane holds; a crash between record and next step leaves it `reserved`")
def sweep_past_what_control_holds(planting: Planting) -> None:
    def make(find: Any) -> Any:
        def nothing(tx: Any) -> list[str]:
            if find(tx):
                planting.bite()
            return []

        return nothing

    planting.replace("kevel.store.attachments:paths_in_control", make)


@bug("E.1: a server is deleted and its attachments stay")
def delete_a_server_and_leave_its_attachments(planting: Planting) -> None:
    def make(close: Any) -> Any:
        def at_once(tx: Any, server: Any, at: int) -> None:
            if server.goal is ServerGoal.DELETED and server.rung is ServerRung.PLACED:
                planting.bite()
                row = {"rung": ServerRung.GONE, "deleted_at": at, "terminated_at": at, "updated_at": at}
                server_rows._write(tx, server, **row)
                finish_action(tx, subject_id=server.id, action="delete", at=at)

        return at_once

    planting.replace("kevel.store.server_rows:close_server_if_left", make)


@bug("a deleted server's attachments keep their goal `attached`, and nobody takes them down")
def delete_a_server_and_keep_its_goals(planting: Planting) -> None:
    def make(find: Any) -> Any:
        def nothing(tx: Any, server_id: str) -> list[Any]:
            if find(tx, server_id):
                planting.bite()
            return []

        return nothing

    planting.replace("kevel.store.server_moves:holds_of_server", make, everywhere=False)


@bug("an error in one write leaves its half behind: the savepoint is not undone, and the batch is committed with it")
def keep_half_of_a_failed_write(planting: Planting) -> None:
    def make(run_job: Any) -> Any:
        def keep(batcher: Any, job: Any) -> None:
            fn, caught = job.fn, []

            def half(tx: Any) -> Any:
                try:
                    return fn(tx)
                except DBAPIError as error:
                    planting.bite()
                    caught.append(error)

            job.fn = half
            try:
                run_job(batcher, job)
            finally:
                job.fn = fn
            if caught:
                job.error, job.wakes = caught[0], []

        return keep

    planting.replace("kevel.store.batch:Batcher._run_job", make)


@bug("the answer goes out before COMMIT has returned; a crash takes back what the user and the agent were told")
def answer_before_the_commit(planting: Planting) -> None:
    def begin(original: Any) -> Any:
        def with_the_last(batcher: Any) -> None:
            if not batcher._sql.in_transaction:
                original(batcher)

        return with_the_last

    def commit(original: Any) -> Any:
        def later(batcher: Any) -> None:
            planting.bite()
            batcher.batches = getattr(batcher, "batches", 0) + 1
            if batcher.batches % 2 == 0:
                original(batcher)

        return later

    def reopen(original: Any) -> Any:
        def after_a_crash(batcher: Any, conn: Any, *more: Any) -> None:
            original(batcher, conn, *more)
            if batcher._sql.in_transaction:
                batcher._sql.execute("ROLLBACK")

        return after_a_crash

    planting.replace("kevel.store.batch:Batcher._begin", begin)
    planting.replace("kevel.store.batch:Batcher._commit", commit)
    planting.replace("kevel.store.batch:Batcher.__init__", reopen)


@bug(
    "a statement's error discards the batch, and nobody runs it again: all are told of success, and nothing is written"
)
def tell_success_of_a_discarded_batch(planting: Planting) -> None:
    def make(run: Any) -> Any:
        def discard(batcher: Any, jobs: Any) -> None:
            try:
                batcher._run_together(jobs)
            except DBAPIError:
                planting.bite()
                for job in jobs:
                    job.error, job.wakes = None, []

        return discard

    planting.replace("kevel.store.batch:Batcher.run", make)


@bug("Nova 1937375 and 1908075: two attaches of one volume pass the check, and no index stands behind it")
def let_two_servers_claim_one_volume(planting: Planting) -> None:
    def make(check: Any) -> Any:
        def pass_all(tx: Any, volume: Any, server_id: str) -> None:
            try:
                check(tx, volume, server_id)
            except Invalid:
                planting.bite()

        return pass_all

    _drop_indexes(planting, "one_holder", "one_claim_per_holder")
    planting.replace("kevel.control.attachments.attachments:check_attachable", make)


@bug("E.1: a second path of one attachment is opened without a migration's record (a duplicated attachment)")
def open_a_second_path(planting: Planting) -> None:
    def make(open_attachment: Any) -> Any:
        def twice(tx: Any, new: Any, volume: Any, **more: Any) -> Any:
            attachment = open_attachment(tx, new, volume, **more)
            planting.bite()
            path = load_path(tx, new.path_id)
            assert path is not None
            path = structs.replace(path, id=new.path_id[::-1], generation=path.generation + 1_000_000)
            path = structs.replace(path, rung=Rung.RESERVED, hands=Hands.CONTROL, connection_info=None)
            more_values = {"live": 1, "agent": path.host, "host_version": 1}
            tx.execute(path_rows._INSERT_PATH, structs.asdict(path) | more_values)
            tx.wake("path", path.id)
            return attachment

        return twice

    planting.replace(MOVES + "open_attachment", make)
    _drop_indexes(planting, "one_path")


def _drop_indexes(planting: Planting, *indexes: str) -> None:
    """Take what the schema would refuse out of it, in each database that is opened."""

    def make(original: Any) -> Any:
        def drop(batcher: Batcher, conn: Any, *more: Any) -> None:
            original(batcher, conn, *more)
            for index in indexes:
                conn.connection.driver_connection.execute(f"DROP INDEX IF EXISTS {index}")

        return drop

    planting.replace("kevel.store.batch:Batcher.__init__", make)


BUGS = tuple(value for value in list(vars().values()) if isinstance(value, Bug))
