"""The network between an agent and the control plane: messages that are lost, repeated, late, or cut off one way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from typing import Any, TypeVar

import msgspec
from sqlalchemy.exc import OperationalError

from kevel.control.hosts.hosts import POLL_WAIT_S, Hosts
from kevel.domain.assignments import Assignments, CopyReport, HostCensus, PathReport, ServerReport, SwapReport
from kevel.domain.errors import KevelError, Unavailable
from kevel.domain.questions import Answer
from tests.simulation.faults import Fault, Faults, Kind
from tests.simulation.loop import SimLoop
from tests.simulation.world import Caller

T = TypeVar("T")

#: What an agent waits for an answer: a poll may be held for POLL_WAIT_S.
ANSWER_S = POLL_WAIT_S + 10.0
LATE_S_MAX = 60.0
CUT_S_MAX = 90.0


class Network:
    """Carries messages, or does not."""

    def __init__(self, loop: SimLoop, faults: Faults, outside: Context) -> None:
        self.loop = loop
        self.faults = faults
        self.outside = outside
        #: Until when nothing gets through, by direction: "agent sim0 to control".
        self.cut_until: dict[str, float] = {}
        self.tell: Callable[[str, str], None] = lambda who, what: None
        #: Calls that wait for the control plane's answer, and the context of who waits.
        self._waiting: dict[asyncio.Future[Any], Context] = {}

    async def wait(self, answer: asyncio.Future[T], inside: Context) -> T:
        """The answer. Raises Unavailable when there is none in time, or the connection breaks."""
        self._waiting[answer] = inside
        try:
            done, _ = await asyncio.wait({answer}, timeout=ANSWER_S)
        finally:
            self._waiting.pop(answer, None)
        if not done:
            raise Unavailable("The control plane has not answered.")
        return answer.result()

    def break_connections(self) -> None:
        """The control plane's process has died: whoever waits for its answer is told so by his own machine."""
        for answer, inside in self._waiting.items():
            self.loop.call_later(0.001, _fail, answer, context=inside)

    def send(self, way: str, name: str, sender: str, deliver: Callable[[], None], *, context: Context) -> None:
        """Carry one message, in the context of the process that it is for."""
        dice = self.faults.dice
        fault = self.faults.strike(Kind.MESSAGE, name, sender)
        if fault is not None:
            self.tell(sender, f"message {name}: {fault.value}")
        if fault is Fault.CUT:
            self.cut_until[way] = self.loop.time() + dice.random() * CUT_S_MAX
        if fault is Fault.LOST or self.loop.time() < self.cut_until.get(way, 0.0):
            return
        for copy in range(2 if fault is Fault.REPEATED else 1):
            # A second copy is worst long after the first: what it says is old then.
            late_s = dice.random() * LATE_S_MAX if fault is Fault.LATE or copy else 0.0
            self.loop.call_later(late_s + dice.random() * 0.004, deliver, context=context)

    def heal(self) -> None:
        """Everything gets through again."""
        self.cut_until.clear()


class SimLink:
    """`kevel.host.state.ControlPlane` over the network, as one life of an agent has it."""

    def __init__(self, network: Network, caller: Caller, inside: Context, control: ControlSide) -> None:
        self._network = network
        self._caller = caller
        self._inside = inside
        self._control = control

    async def register(self, host: str, *, availability_zone: str, facts: Mapping[str, Any]) -> int:
        return await self._call(
            "register", lambda hosts: hosts.register(host, availability_zone=availability_zone, facts=facts)
        )

    async def changes(self, host: str, since: int) -> Assignments:
        return await self._call("changes", lambda hosts: hosts.changes(host, since))

    async def report(
        self, host: str, epoch: int, servers: tuple[ServerReport, ...], paths: tuple[PathReport, ...]
    ) -> None:
        # What is said must be plain data: it goes over a wire one day.
        servers = msgspec.json.decode(msgspec.json.encode(servers), type=tuple[ServerReport, ...])
        paths = msgspec.json.decode(msgspec.json.encode(paths), type=tuple[PathReport, ...])
        await self._call("report", lambda hosts: hosts.report(host, epoch, servers, paths))

    async def report_copy(self, host: str, epoch: int, report: CopyReport) -> None:
        report = msgspec.json.decode(msgspec.json.encode(report), type=CopyReport)
        await self._call("report of a copy", lambda hosts: hosts.report_copy(host, epoch, report))

    async def report_swap(self, host: str, epoch: int, report: SwapReport) -> None:
        report = msgspec.json.decode(msgspec.json.encode(report), type=SwapReport)
        await self._call("report of a swap", lambda hosts: hosts.report_swap(host, epoch, report))

    async def take_census(self, host: str, epoch: int, census: HostCensus) -> None:
        census = msgspec.json.decode(msgspec.json.encode(census), type=HostCensus)
        await self._call("census", lambda hosts: hosts.take_census(host, epoch, census))

    async def answer(self, host: str, answer: Answer) -> None:
        answer = msgspec.json.decode(msgspec.json.encode(answer), type=Answer)
        await self._call("answer to a question", lambda hosts: hosts.answer(host, answer))

    async def _call(self, name: str, make: Callable[[Hosts], Coroutine[Any, Any, T]]) -> T:
        network, label = self._network, self._caller.label
        answer: asyncio.Future[T] = network.loop.create_future()

        def reply(result: Any, error: Exception | None) -> None:
            def hear() -> None:
                if answer.done():
                    return
                if error is not None:
                    answer.set_exception(error)
                else:
                    answer.set_result(result)

            network.send(f"control to {label}", f"answer to {name}", "control", hear, context=self._inside)

        network.send(
            f"{label} to control", name, label, lambda: self._control.serve(make, reply), context=network.outside
        )
        return await network.wait(answer, self._inside)


def _fail(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(Unavailable("The connection to the control plane broke."))


class ControlSide:
    """Where an agent's messages arrive: at the control plane of the moment, if there is one."""

    def __init__(self, loop: SimLoop, find: Callable[[], tuple[Hosts, Context] | None]) -> None:
        self._loop = loop
        self._find = find

    def serve(
        self, make: Callable[[Hosts], Coroutine[Any, Any, Any]], reply: Callable[[Any, Exception | None], None]
    ) -> None:
        """Answer one message; a control plane that dies over it does not, and one that is down is not listening."""
        found = self._find()
        if found is None:
            reply(None, Unavailable("The connection to the control plane was refused."))
            return
        hosts, inside = found

        async def answer() -> None:
            try:
                result = await make(hosts)
            except KevelError as error:
                reply(None, error)
            except OperationalError:
                reply(None, Unavailable("The control plane has failed."))
            else:
                reply(result, None)

        self._loop.create_task(answer(), context=inside)
