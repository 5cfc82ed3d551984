from __future__ import annotations

import asyncio

import pytest

from kevel.domain.errors import StepNever, StepUnknown
from kevel.host.effects import Effects

WAIT_S = 0.02


class Call:
    """A hypervisor call that takes until it is let go."""

    running = 0

    def __init__(self) -> None:
        self.begun, self._end = asyncio.Event(), asyncio.Event()
        self.most_at_once = 0

    async def __call__(self, result: str = "done") -> str:
        Call.running += 1
        self.most_at_once = Call.running
        self.begun.set()
        try:
            await self._end.wait()
        finally:
            Call.running -= 1
        if result == "refused":
            raise StepNever("No.")
        return result

    def end(self) -> None:
        self._end.set()


async def at_once(result: str) -> str:
    return result


async def refuse() -> str:
    raise StepNever("No.")


async def test_a_call_that_ends_in_time_gives_its_result_or_its_error() -> None:
    effects = Effects(WAIT_S)
    assert await effects.run("server", at_once("done")) == "done"
    with pytest.raises(StepNever, match="No"):
        await effects.run("server", refuse())
    assert await effects.run("server", at_once("again")) == "again", "an error leaves the server free"


async def test_calls_on_one_server_wait_for_each_other() -> None:
    effects = Effects(5)
    first, second = Call(), Call()
    tasks = [asyncio.ensure_future(effects.run("server", call())) for call in (first, second)]
    await first.begun.wait()
    await asyncio.sleep(0)
    assert not second.begun.is_set()
    first.end()
    second.end()
    assert await asyncio.gather(*tasks) == ["done", "done"]
    assert (first.most_at_once, second.most_at_once) == (1, 1)


async def test_an_overdue_call_keeps_its_server_until_it_is_settled() -> None:
    effects = Effects(WAIT_S)
    slow = Call()
    with pytest.raises(StepUnknown, match="still under way"):
        await effects.run("server", slow())
    never_run = Call()
    with pytest.raises(StepUnknown, match="earlier call"):
        await effects.run("server", never_run())
    assert not never_run.begun.is_set()
    slow.end()
    assert await effects.run("server", at_once("now")) == "now"


async def test_other_servers_do_not_wait_for_an_overdue_call() -> None:
    effects = Effects(WAIT_S)
    slow = Call()
    with pytest.raises(StepUnknown):
        await effects.run("slow", slow())
    assert await effects.run("other", at_once("done")) == "done"
    slow.end()
    await effects.drain(1)


async def test_a_cancelled_caller_leaves_its_call_running_and_the_server_held() -> None:
    effects = Effects(WAIT_S)
    call = Call()
    caller = asyncio.ensure_future(effects.run("server", call()))
    await call.begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    with pytest.raises(StepUnknown):
        await effects.run("server", at_once("too early"))
    call.end()
    assert await effects.run("server", at_once("now")) == "now"


async def test_a_caller_cancelled_while_it_waits_in_line_never_makes_its_call_and_holds_nobody_up() -> None:
    effects = Effects(5)
    first, second = Call(), Call()
    running = asyncio.ensure_future(effects.run("server", first()))
    await first.begun.wait()
    waiting = asyncio.ensure_future(effects.run("server", second()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.end()
    assert await running == "done"
    assert await effects.run("server", at_once("now")) == "now"
    assert not second.begun.is_set()


async def test_what_an_overdue_call_answers_in_the_end_is_dropped_without_a_word() -> None:
    effects = Effects(WAIT_S)
    slow = Call()
    with pytest.raises(StepUnknown):
        await effects.run("server", slow("refused"))
    slow.end()
    await effects.drain(1)  # an exception that nobody retrieved would be a warning, and so fail this test
    assert await effects.run("server", at_once("now")) == "now"


async def test_draining_waits_for_overdue_calls_a_bounded_time() -> None:
    effects = Effects(WAIT_S)
    slow = Call()
    with pytest.raises(StepUnknown):
        await effects.run("server", slow())
    await effects.drain(WAIT_S)
    assert Call.running == 1, "the call could not be ended, only left"
    slow.end()
    await effects.drain(1)
    assert Call.running == 0


async def test_forgetting_a_server_keeps_the_lock_of_a_call_under_way() -> None:
    effects = Effects(WAIT_S)
    slow = Call()
    with pytest.raises(StepUnknown):
        await effects.run("server", slow())
    effects.forget("server")
    with pytest.raises(StepUnknown):
        await effects.run("server", at_once("too early"))
    slow.end()
    await effects.drain(1)
    effects.forget("server")
    assert "server" not in effects._locks
