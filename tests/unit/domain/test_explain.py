"""Why an attachment is where it is: a sentence for every state that can be, and what is known of each layer."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from kevel.domain.assignments import DiskSight
from kevel.domain.explain import Answer, Layer, Sights, collect_answers, describe_layers, explain
from kevel.domain.ladder import HANDOVER, Goal, Hands, Rung
from kevel.domain.model import Path, Server, ServerGoal, ServerRung
from tests.things import SECOND, T0, make_attachment, make_path, make_reason, make_server

REFUSED = make_reason("guest_refused", "The guest keeps the disk. It stays attached.")
FULL = make_reason("plug_failed", "The guest has no slot.")
RUNS = make_server()
STOPPED = make_server(goal=ServerGoal.STOPPED, rung=ServerRung.DEFINED)
BUILDING = make_server(rung=ServerRung.PLACED)
DELETING = make_server(goal=ServerGoal.DELETED)


def why(path: Path | None, server: Server = RUNS, *, silent: bool = False, **attachment: Any) -> tuple[str, str]:
    found = explain(make_attachment(**attachment), path, server, host_silent=silent)
    return found.waits_for, found.why


CONTROL = {"hands": Hands.CONTROL}
HOST = {"hands": Hands.HOST}
DOWN = {"goal": Goal.DETACHED}

SENTENCES = [
    (
        make_path(Rung.PLUGGED),
        RUNS,
        {},
        "nobody",
        "The volume is attached: the guest has the disk.",
    ),
    (
        make_path(Rung.PLUGGED),
        STOPPED,
        {},
        "nobody",
        "The volume is attached: the disk is in the definition of its server, which does not run.",
    ),
    (
        make_path(Rung.PLUGGED),
        RUNS,
        {"goal_by": "refusal", "reason": REFUSED},
        "nobody",
        "The volume is still attached, since the detach that was asked for did not succeed: The guest keeps the disk.",
    ),
    (
        make_path(Rung.RESERVED),
        RUNS,
        {},
        "storage",
        "The attach waits for the storage to let host here in.",
    ),
    (
        make_path(Rung.RESERVED, last_error=make_reason()),
        RUNS,
        {},
        "storage",
        "The attach waits for the storage to let host here in; the last try failed: There is no room.",
    ),
    (
        make_path(Rung.EXPORTED, **HOST),
        RUNS,
        {},
        "host",
        "The attach waits for host here to connect the volume and plug the disk.",
    ),
    (
        make_path(Rung.CONNECTED, last_error=FULL),
        RUNS,
        {},
        "host",
        "The attach waits for host here to plug the disk; the last try failed: The guest has no slot.",
    ),
    (
        make_path(Rung.CONNECTED),
        RUNS,
        {"established": True, "reason": FULL},
        "host",
        "The attach waits for host here to plug the disk; the last try failed: The guest has no slot.",
    ),
    (
        make_path(Rung.EXPORTED, **HOST),
        BUILDING,
        {},
        "server",
        "The attach waits for its server to be built on host here.",
    ),
    (
        make_path(Rung.PLUGGED),
        RUNS,
        DOWN,
        "guest",
        "The detach waits for the guest to let go of the disk.",
    ),
    (
        make_path(Rung.PLUGGED),
        RUNS,
        DOWN | {"reason": REFUSED},
        "guest",
        "The detach waits for the guest, which has not let go of the disk so far and is asked again and again.",
    ),
    (
        make_path(Rung.PLUGGED),
        STOPPED,
        DOWN,
        "host",
        "The detach waits for host here to take the disk out of the server's definition.",
    ),
    (
        make_path(Rung.CONNECTED),
        RUNS,
        DOWN | {"goal_by": "rollback", "reason": FULL},
        "host",
        (
            "The attach failed (The guest has no slot) and is being undone, which waits for host here to let go of "
            "the volume."
        ),
    ),
    (
        make_path(Rung.EXPORTED, **CONTROL),
        RUNS,
        DOWN,
        "storage",
        "The detach waits for the storage to shut host here out.",
    ),
    (
        make_path(Rung.PLUGGED),
        DELETING,
        DOWN | {"goal_by": "server"},
        "host",
        "The volume is being freed, since its server is being deleted, and waits for host here to remove the server.",
    ),
    (
        None,
        RUNS,
        DOWN | {"established": True, "closed_at": T0},
        "nobody",
        "The volume is detached, and nothing is left of the attachment.",
    ),
    (
        None,
        RUNS,
        DOWN | {"goal_by": "rollback", "reason": FULL, "closed_at": T0},
        "nobody",
        "The attach failed (The guest has no slot) and was undone; nothing is left of it.",
    ),
    (
        None,
        RUNS,
        DOWN | {"closed_at": T0},
        "nobody",
        "The volume was detached again before it had been attached; nothing is left of it.",
    ),
]


@pytest.mark.parametrize(("path", "server", "attachment", "waits_for", "sentence"), SENTENCES)
def test_the_sentence_says_what_is_so_and_what_is_waited_for(
    path: Path | None, server: Server, attachment: dict[str, Any], waits_for: str, sentence: str
) -> None:
    assert why(path, server, **attachment) == (waits_for, sentence)


def test_a_silent_host_is_named_whatever_is_wanted_of_it() -> None:
    for goal in Goal:
        waits_for, sentence = why(make_path(Rung.CONNECTED), silent=True, goal=goal)
        assert waits_for == "host"
        assert "waits for host here, which does not answer" in sentence


PATHS = [
    make_path(rung, hands=hands, last_error=error)
    for rung, hands, error in product(Rung, Hands, (None, FULL))
    if rung is not Rung.RELEASED and not (rung < HANDOVER and hands is Hands.HOST)
    if not (rung > HANDOVER and hands is Hands.CONTROL)
]
SERVERS = [
    make_server(goal=goal, rung=rung) for goal, rung in product(ServerGoal, ServerRung) if rung is not ServerRung.GONE
]


def test_every_state_that_can_be_has_one_sentence_and_somebody_who_is_to_act() -> None:
    states = product(
        PATHS, SERVERS, Goal, ("user", "rollback", "refusal", "server"), (None, REFUSED), (False, True), (False, True)
    )
    seen = set()
    for path, server, goal, goal_by, reason, established, silent in states:
        attachment = make_attachment(goal=goal, goal_by=goal_by, reason=reason, established=established)
        found = explain(attachment, path, server, host_silent=silent)
        seen.add(found.why)
        assert found.why.startswith("The ")
        assert found.why.endswith(".")
        assert found.why.count(". ") == 0, "one sentence"
        assert "None" not in found.why
        assert "Rung" not in found.why
        assert found.is_finished == (goal is Goal.ATTACHED and path.rung is Rung.PLUGGED)
        assert found.waits_for in ("nobody", "storage", "host", "server", "guest")
        if found.waits_for == "storage":
            assert path.hands is Hands.CONTROL
        elif not found.is_finished:
            assert path.hands is Hands.HOST
        if path.last_error is not None and not found.is_finished and "so far" not in found.why:
            assert "The guest has no slot" in found.why
    assert len(seen) > 30, "the sentences tell states apart"


def test_since_is_when_the_goal_was_set_or_the_path_last_moved() -> None:
    moved = make_path(Rung.CONNECTED, changed_at=T0 + 5 * SECOND)
    assert explain(make_attachment(), moved, RUNS, host_silent=False).since == T0 + 5 * SECOND
    turned = make_attachment(goal=Goal.DETACHED, goal_at=T0 + 9 * SECOND)
    assert explain(turned, moved, RUNS, host_silent=False).since == T0 + 9 * SECOND


UP = [
    (Rung.RELEASED, Rung.RESERVED, T0, "user:u"),
    (Rung.RESERVED, Rung.EXPORTED, T0 + 1, "control"),
    (Rung.EXPORTED, Rung.CONNECTED, T0 + 2, "host:here"),
    (Rung.CONNECTED, Rung.PLUGGED, T0 + 3, "host:here"),
]
FREE = frozenset({Rung.EXPORTED, Rung.CONNECTED})


def layers(
    rung: Rung,
    goal: Goal = Goal.ATTACHED,
    server: Server = RUNS,
    *,
    free: frozenset[Rung] = frozenset(),
    turned: bool = False,
    sights: Sights | None = None,
) -> dict[str, Layer]:
    """The layers of a path that has climbed to that rung; `turned`: it had been on the top, and stepped down."""
    moves = UP if turned else UP[:rung]
    if turned:
        moves = UP + [(Rung(at), Rung(at - 1), T0 + 10 - at, "host:here") for at in range(Rung.PLUGGED, rung, -1)]
    path = make_path(rung, revision=7)
    found = describe_layers(
        make_attachment(goal=goal),
        path,
        server,
        effect_free=free,
        answers=collect_answers(moves),
        sights=sights or Sights(),
    )
    assert [one.name for one in found] == ["record", "export", "connection", "guest_persistent", "guest_live"]
    return {one.name: one for one in found}


def words(found: dict[str, Layer]) -> str:
    return " ".join(f"{one.desired}/{one.observed}" for one in list(found.values())[1:])


def test_each_layer_shows_what_the_last_act_on_it_was_answered() -> None:
    assert words(layers(Rung.PLUGGED)) == "present/present present/present present/present present/present"
    assert words(layers(Rung.CONNECTED)) == "present/present present/present present/unknown present/unknown"
    assert words(layers(Rung.RESERVED)) == "present/unknown present/absent present/absent present/absent"
    down = layers(Rung.CONNECTED, Goal.DETACHED, turned=True)
    assert words(down) == "absent/present absent/present absent/absent absent/absent"
    assert (down["connection"].at, down["connection"].by) == (T0 + 2, "host:here")
    assert (down["guest_live"].at, down["guest_live"].how) == (T0 + 6, "answer")


def test_an_effect_one_rung_above_is_unknown_to_whoever_turned_round() -> None:
    assert words(layers(Rung.EXPORTED, Goal.DETACHED)) == "absent/present absent/unknown absent/absent absent/absent"
    free = layers(Rung.EXPORTED, Goal.DETACHED, free=FREE)
    assert words(free) == "not_needed/not_needed not_needed/not_needed absent/unknown absent/unknown"


def test_a_server_that_does_not_run_has_no_live_disk_to_have() -> None:
    found = layers(Rung.PLUGGED, server=STOPPED, free=FREE)
    assert (found["guest_persistent"].observed, found["guest_live"].desired) == ("present", "no_guest")
    assert found["guest_live"].observed == "no_guest"


@pytest.mark.parametrize(("live", "word"), [(True, "present"), (False, "absent"), (None, "no_guest")])
def test_a_census_wins_over_the_acts_answer_while_the_path_stands(live: bool | None, word: str) -> None:
    disk = DiskSight(path_id="path", revision=7, live=live, persistent=True)
    found = layers(Rung.PLUGGED, sights=Sights(disk=disk, disk_at=T0 + 99))
    assert (found["guest_live"].observed, found["guest_persistent"].observed) == (word, "present")
    assert (found["guest_live"].at, found["guest_live"].by, found["guest_live"].how) == (T0 + 99, "host:here", "census")


def test_a_census_of_an_earlier_revision_says_nothing() -> None:
    disk = DiskSight(path_id="path", revision=6, live=False, persistent=False)
    assert layers(Rung.PLUGGED, sights=Sights(disk=disk, disk_at=T0 + 99)) == layers(Rung.PLUGGED)


def test_the_storages_own_list_wins_over_the_exports_answer_once_it_is_newer() -> None:
    seen = Sights(export=False, export_at=T0 + 50, storage="pool")
    export = layers(Rung.PLUGGED, sights=seen)["export"]
    assert (export.observed, export.by, export.how) == ("absent", "storage:pool", "census")
    older = Sights(export=False, export_at=T0, storage="pool")
    assert layers(Rung.PLUGGED, sights=older)["export"].observed == "present"


def test_the_last_act_on_a_rung_counts() -> None:
    moves = [*UP, (Rung.PLUGGED, Rung.CONNECTED, T0 + 4, "host:here")]
    answers = collect_answers(moves)
    assert answers[Rung.PLUGGED] == Answer(present=False, at=T0 + 4, by="host:here")
    assert answers[Rung.CONNECTED] == Answer(present=True, at=T0 + 2, by="host:here")


def test_a_volume_that_is_still_being_made_is_what_its_server_waits_for() -> None:
    path = make_path(Rung.RESERVED, hands=Hands.CONTROL)
    found = explain(make_attachment(established=True), path, RUNS, host_silent=False, volume_made=False)
    assert (found.why, found.waits_for) == ("The server waits for its volume to be made.", "storage")
    failed = make_attachment(established=True, reason=FULL)
    found = explain(failed, path, RUNS, host_silent=False, volume_made=False)
    assert "The guest has no slot" in found.why


def test_a_root_volume_that_gets_another_image_is_what_its_server_waits_for() -> None:
    path = make_path(HANDOVER, hands=Hands.CONTROL)
    attachment = make_attachment(established=True)
    found = explain(attachment, path, RUNS, host_silent=False, withheld=True)
    assert (found.waits_for, "gets the image" in found.why) == ("storage", True)
    layers = describe_layers(attachment, path, RUNS, effect_free=(), answers={}, sights=Sights(), withheld=True)
    assert {layer.name: layer.desired for layer in layers if layer.name in ("export", "connection")} == {
        "export": "present",
        "connection": "absent",
    }
