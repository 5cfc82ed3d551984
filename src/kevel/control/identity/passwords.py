"""Hashing and verifying secrets that people choose: argon2id, in threads, a bounded number at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from kevel.domain.errors import Unavailable
from kevel.runtime.ports import Executor, Ids

#: Hashes under way at once: each takes a core and `memory_kib` of memory.
HASHES_AT_ONCE_MAX: Final = 2
#: Logins that wait for their turn; beyond that the caller is told to come back.
HASHES_WAITING_MAX: Final = 200


@dataclass(frozen=True, kw_only=True)
class PasswordCost:
    """What one hash costs. The default is OWASP's first choice for argon2id: about 25 ms here."""

    memory_kib: int = 19 * 1024
    passes: int = 2
    lanes: int = 1


class Passwords:
    """Hashes and verifies. A verification takes as long for an unknown user as for a known one."""

    def __init__(self, executor: Executor, ids: Ids, cost: PasswordCost) -> None:
        self._executor = executor
        self._ids = ids
        self._hasher = PasswordHasher(time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=cost.lanes)
        self._slots = asyncio.Semaphore(HASHES_AT_ONCE_MAX)
        self._waiting = 0
        # Nobody knows its password; unknown users are verified against it.
        self._nobody = self._hash(ids.secret(), self._draw_salt())

    async def hash(self, secret: str) -> str:
        """The secret's hash in argon2's own string format. Raises Unavailable when too many wait."""
        salt = self._draw_salt()
        async with self._turn():
            return await self._executor.run(self._hash, secret, salt)

    async def verify(self, stored: str | None, secret: str) -> bool:
        """Does the secret fit the hash? Never, if there is none. Raises Unavailable when too many wait."""
        async with self._turn():
            fits = await self._executor.run(self._verify, stored or self._nobody, secret)
        return fits and stored is not None

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= HASHES_WAITING_MAX:
            raise Unavailable("Too many logins are under way; try again in a moment.")
        self._waiting += 1
        try:
            async with self._slots:
                yield
        finally:
            self._waiting -= 1

    def _draw_salt(self) -> bytes:
        return hashlib.sha256(self._ids.secret().encode()).digest()[:16]

    def _hash(self, secret: str, salt: bytes) -> str:
        return self._hasher.hash(secret, salt=salt)

    def _verify(self, stored: str, secret: str) -> bool:
        try:
            return self._hasher.verify(stored, secret)
        except (VerificationError, InvalidHashError):
            return False
