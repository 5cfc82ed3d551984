from __future__ import annotations

import asyncio
import threading
import time
import uuid

import pytest

from kevel.runtime.ports import SystemClock, SystemIds, ThreadExecutor


def test_the_clock_tells_microseconds_since_the_epoch() -> None:
    before = time.time()
    now = SystemClock().now_us() / 1e6
    assert before - 1 < now < time.time() + 1


def test_ids_are_uuids_secrets_are_long_and_none_comes_twice() -> None:
    ids = SystemIds()
    assert len({ids.uuid() for _ in range(100)}) == len({ids.secret() for _ in range(100)}) == 100
    made = ids.uuid()
    assert str(uuid.UUID(made)) == made
    assert len(ids.secret()) >= 256 / 6
    assert all(0 <= ids.jitter() < 1 for _ in range(100))


async def test_the_executor_runs_calls_in_its_threads_and_hands_on_results_and_errors() -> None:
    executor = ThreadExecutor("test", 2)
    assert await executor.run(int, "12", base=3) == 5
    assert (await executor.run(threading.current_thread)).name.startswith("test")
    with pytest.raises(ValueError, match="invalid literal"):
        await executor.run(int, "x")
    executor.close()


async def test_a_cancelled_wait_does_not_stop_the_call() -> None:
    executor = ThreadExecutor("test", 1)
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        go_on.wait(10)
        ended.set()

    waiting = asyncio.ensure_future(executor.run(call))
    assert await asyncio.to_thread(begun.wait, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not ended.is_set()
    go_on.set()
    executor.close()
    assert ended.is_set()
