from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from kevel.domain.errors import StaleWrite
from kevel.runtime import reconciler as module
from kevel.runtime.reconciler import (
    BACKOFF_FIRST_S,
    BACKOFF_MAX_S,
    DONE,
    STALE_AT_ONCE_MAX,
    Again,
    Outcome,
    Reconciler,
    Retry,
)

Look = Callable[[str], Awaitable[Outcome]]


class EvenIds:
    """Jitter that changes nothing: the middle of its range."""

    def uuid(self) -> str:
        return "id"

    def secret(self) -> str:
        return "secret"

    def jitter(self) -> float:
        return 0.5


class Looks:
    """A look that a test scripts: an outcome or an exception for each call, and DONE afterwards."""

    def __init__(self, *script: Outcome | Exception) -> None:
        self.keys: list[str] = []
        self._script = list(script)

    async def __call__(self, key: str) -> Outcome:
        self.keys.append(key)
        outcome = self._script.pop(0) if self._script else DONE
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@asynccontextmanager
async def reconciling(look: Look, *, parallel_max: int = 8) -> AsyncIterator[Reconciler]:
    reconciler = Reconciler("test", look, EvenIds(), parallel_max=parallel_max)
    try:
        yield reconciler
    finally:
        await reconciler.close()


async def settle(reconciler: Reconciler) -> None:
    """Until no look runs or is about to; a look may be waiting for its timer."""
    while reconciler._running:
        await asyncio.sleep(0)


def delay_s(reconciler: Reconciler, key: str) -> float:
    return reconciler._timers[key].when() - asyncio.get_running_loop().time()


async def test_a_woken_key_is_looked_at_once() -> None:
    look = Looks()
    async with reconciling(look) as reconciler:
        reconciler.wake("a")
        await settle(reconciler)
        assert look.keys == ["a"]
        assert not reconciler._timers


async def test_a_key_is_never_looked_at_twice_at_once_and_a_wake_up_during_its_look_leads_to_another() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    running, most, looks = 0, 0, 0

    async def look(key: str) -> Outcome:
        nonlocal running, most, looks
        running, looks = running + 1, looks + 1
        most = max(most, running)
        begun.set()
        await go_on.wait()
        running -= 1
        return DONE

    async with reconciling(look) as reconciler:
        reconciler.wake("a")
        await begun.wait()
        for _ in range(5):
            reconciler.wake("a")
        await asyncio.sleep(0)
        go_on.set()
        await settle(reconciler)
    assert most == 1
    assert looks == 2, "five wake-ups during one look ask for one more"


async def test_different_keys_are_looked_at_at_once_up_to_the_limit() -> None:
    go_on = asyncio.Event()
    running: set[str] = set()
    most = 0

    async def look(key: str) -> Outcome:
        nonlocal most
        running.add(key)
        most = max(most, len(running))
        await go_on.wait()
        running.discard(key)
        return DONE

    async with reconciling(look, parallel_max=3) as reconciler:
        for number in range(10):
            reconciler.wake(str(number))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(running) == 3
        go_on.set()
        await settle(reconciler)
    assert most == 3


async def test_again_is_looked_at_after_its_delay_and_is_no_failure() -> None:
    look = Looks(Retry("busy"), Again(0.01))
    async with reconciling(look) as reconciler:
        reconciler.wake("a")
        await settle(reconciler)
        reconciler.wake("a")
        await settle(reconciler)
        assert reconciler._failures == {}
        assert 0 < delay_s(reconciler, "a") <= 0.01
        while len(look.keys) < 3:
            await asyncio.sleep(0.002)
    assert look.keys == ["a"] * 3


async def test_retry_waits_longer_after_each_failure_up_to_the_limit_and_anew_after_a_success() -> None:
    failures = 9
    look = Looks(*(Retry("busy") for _ in range(failures)), DONE, Retry("busy"))
    delays: list[float] = []
    async with reconciling(look) as reconciler:
        for _ in range(failures):
            reconciler.wake("a")
            await settle(reconciler)
            delays.append(delay_s(reconciler, "a"))
        reconciler.wake("a")
        await settle(reconciler)
        assert not reconciler._timers
        reconciler.wake("a")
        await settle(reconciler)
        delays.append(delay_s(reconciler, "a"))
    expected = [min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**number) for number in range(failures)]
    assert delays == pytest.approx([*expected, BACKOFF_FIRST_S], abs=0.1)
    assert BACKOFF_MAX_S in expected


async def test_a_failed_look_is_repeated_without_anybody_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_FIRST_S", 0.001)
    look = Looks(Retry("busy"), Retry("busy"))
    async with reconciling(look) as reconciler:
        reconciler.wake("a")
        while len(look.keys) < 3:
            await asyncio.sleep(0.001)
        await settle(reconciler)
        assert not reconciler._timers


async def test_a_wake_up_does_not_wait_for_the_backoff() -> None:
    look = Looks(Retry("busy"))
    async with reconciling(look) as reconciler:
        reconciler.wake("a")
        await settle(reconciler)
        assert "a" in reconciler._timers
        reconciler.wake("a")
        await settle(reconciler)
        assert look.keys == ["a", "a"]
        assert not reconciler._timers, "and the timer is gone"


async def test_a_stale_write_is_decided_anew_at_once() -> None:
    look = Looks(StaleWrite(), StaleWrite())
    async with reconciling(look) as reconciler:
        reconciler.wake("a")
        await settle(reconciler)
        assert look.keys == ["a"] * 3
        assert not reconciler._timers


async def test_a_row_that_always_moves_is_looked_at_with_backoff_in_the_end() -> None:
    look = Looks(*[StaleWrite() for _ in range(STALE_AT_ONCE_MAX + 1)])
    async with reconciling(look) as reconciler:
        reconciler.wake("a")
        await settle(reconciler)
        assert len(look.keys) == STALE_AT_ONCE_MAX + 1
        assert "a" in reconciler._timers


async def test_an_exception_in_a_look_is_logged_and_the_key_is_not_forgotten(
    capsys: pytest.CaptureFixture[str],
) -> None:
    look = Looks(ValueError("a bug"))
    async with reconciling(look) as reconciler:
        reconciler.wake("a")
        await settle(reconciler)
        assert delay_s(reconciler, "a") == pytest.approx(BACKOFF_FIRST_S, abs=0.1)
        reconciler.wake("a")
        await settle(reconciler)
        assert look.keys == ["a", "a"]
    logged = capsys.readouterr().out
    assert "look failed" in logged
    assert "a bug" in logged


async def test_one_keys_failure_delays_no_other() -> None:
    look = Looks(ValueError("a bug"), DONE)
    async with reconciling(look) as reconciler:
        reconciler.wake("a")
        reconciler.wake("b")
        await settle(reconciler)
        assert look.keys == ["a", "b"]
        assert set(reconciler._timers) == {"a"}


async def test_closing_ends_running_looks_and_timers_and_takes_no_more_keys() -> None:
    ended: list[str] = []
    begun = asyncio.Event()

    async def look(key: str) -> Outcome:
        if key == "later":
            return Again(0.001)
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # a look that has to tidy up
            ended.append(key)
        return DONE

    reconciler = Reconciler("test", look, EvenIds(), parallel_max=8)
    reconciler.wake("later")
    reconciler.wake("long")
    await begun.wait()
    reconciler.wake("long")
    await reconciler.close()
    assert ended == ["long"], "closing waits until the look has ended"
    reconciler.wake("new")
    await asyncio.sleep(0.005)
    assert not reconciler._running
    assert not reconciler._timers
    assert ended == ["long"]


async def test_when_a_key_is_looked_at_next_can_be_asked() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def look(key: str) -> Outcome:
        started.set()
        await go_on.wait()
        return Again(60.0)

    async with reconciling(look) as reconciler:
        assert reconciler.next_look_s("key") is None, "nobody has put it up"
        reconciler.wake("key")
        await started.wait()
        assert reconciler.next_look_s("key") == 0, "now"
        go_on.set()
        while reconciler.next_look_s("key") == 0:
            await asyncio.sleep(0)
        left_s = reconciler.next_look_s("key")
        assert left_s is not None
        assert 50 < left_s <= 60
        assert reconciler.next_look_s("other") is None
