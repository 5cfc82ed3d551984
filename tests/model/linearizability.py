"""Is a history of requests explained by some order of them that a machine allows?

Every request takes effect at one moment between its call and its answer. The search goes through the history event by
event and keeps all configurations that explain what has been seen so far: the machine's state, and which of the open
requests have taken effect. A request is made to take effect only when its answer has come, together with those open
ones that may have come before it (Lowe's just-in-time form of Wing and Gong's search); equal configurations are kept
once, which is the memoisation. A history is refused at the first answer that no configuration explains.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from tests.model.model import UNKNOWN, Answer, Request

#: Events shown with a refusal.
STORY_EVENTS: Final = 14
STATES_SHOWN: Final = 20
#: Configurations at once; a history that needs more is too concurrent for this search.
CONFIGURATIONS_MAX: Final = 200_000


#: Which of the open requests have taken effect, and the state after that.
Configuration = tuple[frozenset[int], Any]


class Machine(Protocol):
    """A specification; see `tests.model.model`."""

    @property
    def initial(self) -> Any:
        """The state before the first request."""
        ...

    def moves(self, now: Any) -> Iterable[Any]:
        """States that may follow by themselves."""
        ...

    def serve(self, now: Any, ask: Request) -> Iterable[tuple[Answer, Any]]:
        """Answers that the request may get, each with the state that follows."""
        ...

    def rests(self, now: Any) -> bool:
        """Has everything that was asked for ended?"""
        ...


class Operation(NamedTuple):
    """One request with its answer, and the moments of both on one counter."""

    request: Request
    answer: Answer
    called: int
    answered: int


class Refused(AssertionError):
    """No order of the requests explains this history."""


class Watch:
    """Follows one thing's history, part by part, and knows all states that it may be in."""

    def __init__(self, name: str, machine: Machine) -> None:
        self._name = name
        self._machine = machine
        self.states: frozenset[Any] = frozenset({machine.initial})
        #: What may follow from a state by itself, and what from a state and a request with its answer.
        self._reached: dict[Hashable, frozenset[Any]] = {}
        self._served: dict[tuple[Hashable, Request, Answer], frozenset[Any]] = {}
        self._story: deque[str] = deque(maxlen=STORY_EVENTS)

    @property
    def may_rest(self) -> bool:
        """Is there a state among them in which everything that was asked for has ended?"""
        return any(self._machine.rests(state) for state in self.states)

    def follow(self, operations: Sequence[Operation]) -> None:
        """The next part of the history; each request of it was sent when those of the parts before were answered.

        Raises Refused at the first answer that nothing explains.
        """
        events = [(operation.called, 0, number) for number, operation in enumerate(operations)]
        events += [(operation.answered, 1, number) for number, operation in enumerate(operations)]
        found: set[Configuration] = {(frozenset(), state) for state in self.states}
        pending: dict[int, Operation] = {}
        for _, is_answer, number in sorted(events):
            operation = operations[number]
            if not is_answer:
                pending[number] = operation
                self._story.append(f"{number} asks {_show_request(operation.request)}")
                continue
            before, found = found, self._explain(found, pending, number)
            self._story.append(f"{number} gets {_show_answer(operation.answer)}")
            if not found:
                raise Refused(self._tell(before, number))
            del pending[number]
        self.states = frozenset(state for _, state in found)

    def _explain(self, found: set[Configuration], pending: Mapping[int, Operation], number: int) -> set[Configuration]:
        """The configurations in which that request has taken effect, or may never do so."""
        explained: set[Configuration] = set()
        if pending[number].answer is UNKNOWN:
            explained = {one for one in found if number not in one[0]}
        waiting, known = list(found), set(found)
        while waiting:
            done, state = waiting.pop()
            if number in done:
                explained.add((done - {number}, state))
                continue
            for other, operation in pending.items():
                if other in done:
                    continue
                for after in self._serve(state, operation.request, operation.answer):
                    one = (done | {other}, after)
                    if one not in known:
                        known.add(one)
                        waiting.append(one)
            assert len(known) < CONFIGURATIONS_MAX, f"{self._name}: more than {CONFIGURATIONS_MAX} configurations"
        return explained

    def _serve(self, state: Any, request: Request, answer: Answer) -> frozenset[Any]:
        """The states that may follow when the request gets that answer, now or after moves of the machine's own."""
        key = (state, request, answer)
        if key not in self._served:
            self._served[key] = frozenset(
                after
                for now in self.reach(state)
                for given, after in self._machine.serve(now, request)
                if answer is UNKNOWN or given == answer
            )
        return self._served[key]

    def reach(self, state: Any) -> frozenset[Any]:
        """That state, and all that may follow from it without a request."""
        if state not in self._reached:
            found, waiting = {state}, [state]
            while waiting:
                new = set(self._machine.moves(waiting.pop())) - found
                found |= new
                waiting.extend(new)
            self._reached[state] = frozenset(found)
        return self._reached[state]

    def _tell(self, before: set[Configuration], number: int) -> str:
        states = sorted({str(now) for _, state in before for now in self.reach(state)})
        story = "\n  ".join(self._story)
        shown = "\n  ".join(states[:STATES_SHOWN])
        return f"{self._name}: nothing explains the answer of {number}:\n  {story}\nIt could be:\n  {shown}"


def check_history(name: str, machine: Machine, operations: Sequence[Operation]) -> None:
    """The whole history of one thing. Raises Refused when no order of its requests explains it."""
    Watch(name, machine).follow(operations)


def _show_request(request: Request) -> str:
    words = [f"{name}={value}" for name, value in request._asdict().items() if value and name != "verb"]
    return f"{request.verb} {' '.join(words)}"


def _show_answer(answer: Answer) -> str:
    if answer is UNKNOWN:
        return "no answer"
    return " ".join(str(part) for part in answer if part not in ("", None))
