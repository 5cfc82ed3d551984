"""The search: what some order explains is accepted, and what no order explains is refused."""

from __future__ import annotations

import random

import pytest

from tests.model.linearizability import Operation, Refused, Watch, check_history
from tests.model.model import NO_VOLUME, UNKNOWN, Answer, Place, Request, ServerMachine, Volume, VolumeMachine

PLACE = Place({"v": "p", "s1": "p", "s2": "p"})
CREATE = Operation(Request("create", "p", volume="v", size=1), Answer(202), 0, 1)
OK, TAKEN, ACCEPTED = Answer(200), Answer(400), Answer(202)


def attach(server: str = "s1") -> Request:
    return Request("attach", "p", server=server, volume="v")


def detach(server: str = "s1") -> Request:
    return Request("detach", "p", server=server, volume="v")


SHOW = Request("show", "p", volume="v")
AVAILABLE = Answer(200, seen=("available", 1, ()))
IN_USE = Answer(200, seen=("in-use", 1, ("s1",)))
ATTACHING = Answer(200, seen=("attaching", 1, ()))
DETACHING = Answer(200, seen=("detaching", 1, ()))


def in_turn(*pairs: tuple[Request, Answer]) -> list[Operation]:
    """One after the other, behind the volume's creation."""
    return [CREATE] + [Operation(*pair, 10 * at, 10 * at + 5) for at, pair in enumerate(pairs, 1)]


def check(history: list[Operation], place: Place = PLACE) -> None:
    check_history("volume v", VolumeMachine("v", place), history)


def test_a_life_of_attach_and_detach_is_accepted() -> None:
    check(
        in_turn(
            (SHOW, AVAILABLE),
            (attach(), OK),
            (SHOW, ATTACHING),
            (SHOW, IN_USE),
            (detach(), ACCEPTED),
            (SHOW, DETACHING),
            (SHOW, AVAILABLE),
            (detach(), NO_VOLUME),
            (attach("s2"), OK),
        )
    )


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param([(attach(), OK), (attach("s2"), OK)], id="two servers get a volume for one"),
        pytest.param([(attach(), OK), (SHOW, AVAILABLE)], id="an accepted attach is forgotten"),
        pytest.param([(attach(), OK), (SHOW, IN_USE), (SHOW, AVAILABLE)], id="a volume is lost without a detach"),
        pytest.param([(attach(), OK), (SHOW, IN_USE), (SHOW, ATTACHING)], id="what was complete is incomplete again"),
        pytest.param([(SHOW, AVAILABLE), (attach(), TAKEN)], id="an attach of a free volume is refused"),
        pytest.param([(attach(), OK), (attach("s2"), TAKEN), (SHOW, DETACHING)], id="a failure without a cause"),
        pytest.param([(SHOW, AVAILABLE), (SHOW, IN_USE)], id="in use though nobody attached it"),
        pytest.param([(attach(), OK), (detach(), NO_VOLUME)], id="a detach does not know of the attach"),
        pytest.param([(attach(), OK), (detach(), ACCEPTED), (SHOW, IN_USE)], id="an accepted detach is forgotten"),
        pytest.param([(SHOW, NO_VOLUME)], id="a volume that was made is not there"),
        pytest.param([(Request("show", "q", volume="v"), AVAILABLE)], id="another project sees it"),
        pytest.param([(SHOW, Answer(200, seen=("available", 2, ())))], id="a size that nobody asked for"),
        pytest.param([(SHOW, Answer(500))], id="an error of Kevel's own"),
    ],
)
def test_what_no_order_explains_is_refused(pairs: list[tuple[Request, Answer]]) -> None:
    with pytest.raises(Refused, match="nothing explains the answer"):
        check(in_turn(*pairs))


def test_available_seen_before_the_detach_was_acknowledged_stays_so() -> None:
    history = in_turn((attach(), OK), (SHOW, IN_USE))
    detaching = Operation(detach(), ACCEPTED, 100, 130)
    early = Operation(SHOW, AVAILABLE, 110, 120)
    check([*history, detaching, early, Operation(SHOW, AVAILABLE, 140, 150)])
    with pytest.raises(Refused):
        check([*history, detaching, early, Operation(SHOW, IN_USE, 122, 125)])
    with pytest.raises(Refused):
        check([*history, Operation(SHOW, AVAILABLE, 90, 95), detaching])


def test_of_two_attaches_at_once_only_one_may_win() -> None:
    made = in_turn((SHOW, AVAILABLE))
    race = [Operation(attach(), OK, 20, 40), Operation(attach("s2"), TAKEN, 20, 30)]
    check([*made, *race])
    with pytest.raises(Refused):
        check([*made, race[0], race[1]._replace(answer=OK)])
    # The loser's answer came before the winner asked: it cannot have lost to it.
    with pytest.raises(Refused):
        check([*made, race[0]._replace(called=31), race[1]])


@pytest.mark.parametrize("seen", [AVAILABLE, ATTACHING, IN_USE])
def test_a_request_without_an_answer_may_have_been_carried_out_or_not(seen: Answer) -> None:
    check(in_turn((attach(), UNKNOWN), (SHOW, seen)))


def test_a_request_without_an_answer_takes_effect_before_its_process_died_or_never() -> None:
    with pytest.raises(Refused):
        check(in_turn((attach(), UNKNOWN), (SHOW, AVAILABLE), (SHOW, ATTACHING)))


def test_with_faults_an_attach_may_be_rolled_back_and_a_guest_may_keep_its_disk() -> None:
    rolled_back = in_turn((attach(), OK), (SHOW, DETACHING), (SHOW, AVAILABLE))
    kept = in_turn((attach(), OK), (SHOW, IN_USE), (detach(), ACCEPTED), (SHOW, DETACHING), (SHOW, IN_USE))
    for history in (rolled_back, kept):
        check(history, PLACE._replace(faulty=True))
        with pytest.raises(Refused):
            check(history)
    check(kept, PLACE._replace(keepers=frozenset({"s1"})))
    check(rolled_back, PLACE._replace(refusers=frozenset({"s1"})))


def test_a_refusal_tells_the_story_and_the_states_that_were_possible() -> None:
    with pytest.raises(Refused) as caught:
        check(in_turn((attach(), OK), (attach("s2"), OK)))
    for words in ("volume v", "asks attach project=p server=s2", "gets 200", "phase='attaching'"):
        assert words in str(caught.value)


def test_a_history_can_be_followed_part_by_part() -> None:
    watch = Watch("volume v", VolumeMachine("v", PLACE))
    watch.follow([CREATE])
    watch.follow([Operation(SHOW, AVAILABLE, 2, 3)])
    assert watch.states == {Volume("idle", 1, 1)}
    with pytest.raises(Refused):
        watch.follow([Operation(SHOW, IN_USE, 4, 5)])


def test_a_server_is_seen_only_where_its_requests_can_have_brought_it() -> None:
    def server(*pairs: tuple[str, Answer]) -> None:
        asks = [(Request(verb, "p", server="s1"), answer) for verb, answer in pairs]
        operations = [
            Operation(*pair, at, at) for at, pair in enumerate([(Request("create_server", "p"), ACCEPTED), *asks])
        ]
        check_history("server s1", ServerMachine("s1", PLACE), operations)

    def seen(word: str, task: str | None = None) -> tuple[str, Answer]:
        return "show_server", Answer(200, seen=(word, task, False))

    server(seen("BUILD", "spawning"), seen("ACTIVE"), ("stop", ACCEPTED), ("start", Answer(409)), seen("SHUTOFF"))
    server(seen("ACTIVE"), ("guest_ends", Answer(0)), seen("ACTIVE"), seen("SHUTOFF"), ("start", ACCEPTED))
    with pytest.raises(Refused):
        server(seen("ACTIVE"), seen("SHUTOFF"))
    with pytest.raises(Refused):
        server(seen("ACTIVE"), ("start", ACCEPTED))
    with pytest.raises(Refused):
        server(("delete_server", Answer(204)), seen("ACTIVE"))


def make_history(dice: random.Random, count: int, users: int) -> list[Operation]:
    """What concurrent users would see of a volume that keeps to the machine: made by running the machine."""
    machine = VolumeMachine("v", PLACE)
    now, clock, history = Volume("idle", 1, 1), 2, [CREATE]
    running: list[tuple[Request, int]] = []
    while len(history) < count or running:
        clock += 1
        if len(history) + len(running) < count and len(running) < users and dice.random() < 0.6:
            server = dice.choice(("s1", "s2"))
            running.append((dice.choice([attach(server), detach(server), SHOW, SHOW, SHOW]), clock))
            continue
        moves = list(machine.moves(now))
        if moves and dice.random() < 0.3:
            now = dice.choice(moves)
        if running:
            request, called = running.pop(dice.randrange(len(running)))
            answer, now = dice.choice(list(machine.serve(now, request)))
            clock += 1
            history.append(Operation(request, answer, called, clock + dice.randrange(3)))
    return history


@pytest.mark.parametrize("seed", range(3))
def test_a_long_history_of_many_users_is_accepted_and_one_wrong_answer_in_it_is_found(seed: int) -> None:
    dice = random.Random(seed)
    history = make_history(dice, 1000, users=4)
    check(history)
    at = next(at for at in range(800, 1000) if history[at].answer == AVAILABLE)
    broken = [*history]
    broken[at] = broken[at]._replace(answer=Answer(200, seen=("in-use", 1, ("s1", "s2"))))
    with pytest.raises(Refused):
        check(broken)
