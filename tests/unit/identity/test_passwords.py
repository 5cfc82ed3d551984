from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pytest

from kevel.control.identity import passwords
from kevel.control.identity.passwords import HASHES_AT_ONCE_MAX, HASHES_WAITING_MAX, PasswordCost, Passwords
from kevel.domain.errors import Unavailable
from kevel.runtime.ports import SystemIds

P = ParamSpec("P")
T = TypeVar("T")


class HeldExecutor:
    """Runs calls once the gate is open, and counts them."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = 0
        self.running_max = 0
        self.names: list[str] = []

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        self.names.append(getattr(fn, "__name__", ""))
        await self.gate.wait()
        self.running -= 1
        return fn(*args, **kwargs)


@pytest.fixture
def executor() -> HeldExecutor:
    return HeldExecutor()


@pytest.fixture
def hashing(executor: HeldExecutor) -> Passwords:
    return Passwords(executor, SystemIds(), PasswordCost(memory_kib=8, passes=1))


async def test_a_password_fits_its_own_hash_only(hashing: Passwords) -> None:
    stored = await hashing.hash("sesame")
    assert stored.startswith("$argon2id$")
    assert "sesame" not in stored
    assert stored != await hashing.hash("sesame")
    assert await hashing.verify(stored, "sesame")
    assert not await hashing.verify(stored, "Sesame")
    assert not await hashing.verify("no hash", "sesame")


async def test_an_unknown_user_costs_one_verification_as_well(hashing: Passwords, executor: HeldExecutor) -> None:
    assert not await hashing.verify(None, "sesame")
    assert executor.names == ["_verify"]


async def test_nobody_has_no_password_that_fits(executor: HeldExecutor) -> None:
    class KnownIds(SystemIds):
        def secret(self) -> str:
            return "known"

    hashing = Passwords(executor, KnownIds(), PasswordCost(memory_kib=8, passes=1))
    assert not await hashing.verify(None, "known")


async def test_hashing_is_bounded_at_once_and_in_its_queue(
    hashing: Passwords, executor: HeldExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "HASHES_WAITING_MAX", 10)
    assert HASHES_WAITING_MAX > HASHES_AT_ONCE_MAX
    executor.gate.clear()
    tasks = [asyncio.create_task(hashing.verify(None, "x")) for _ in range(10)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await hashing.verify(None, "x")
    executor.gate.set()
    assert await asyncio.gather(*tasks) == [False] * 10
    assert executor.running_max == HASHES_AT_ONCE_MAX
    assert not await hashing.verify(None, "x")


def test_the_default_cost_is_no_less_than_owasps_first_choice() -> None:
    cost = PasswordCost()
    assert cost.memory_kib >= 19 * 1024
    assert cost.passes >= 2
