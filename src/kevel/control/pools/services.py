"""The parts that serve the block storage API, under the names of Cinder's processes: the use cases of operators.

One Kevel process is all of them. What an admin says of a part is kept: a disabled one takes nothing new, a frozen pool
keeps what it has as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from kevel.control.pools.pools import Pool, Pools
from kevel.control.runtime import Runtime
from kevel.domain.errors import Invalid, NotFound
from kevel.store import volume_services as rows
from kevel.store.transactions import Tx
from kevel.store.volume_services import BACKUP, SCHEDULER, VOLUME, ProjectShare, ServiceWord

#: Why a frozen pool is disabled.
FROZEN_REASON: Final = "frozen"


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """One part as operators see it."""

    binary: str
    host: str
    zone: str
    is_up: bool
    disabled: bool
    disabled_reason: str | None
    frozen: bool
    #: When it was last heard of, or spoken of.
    updated_at: int


class VolumeServices:
    """Lists of parts, and what admins say of them."""

    def __init__(self, runtime: Runtime, pools: Pools) -> None:
        self._runtime = runtime
        self._pools = pools

    async def list(self, *, host: str | None = None, binary: str | None = None) -> list[ServiceView]:
        """The parts; a host's name means those of its pools too."""
        pools = await self._pools.list()
        words = {(one.host, one.binary): one for one in await self._runtime.store.read(rows.list_words)}
        found = [_view(part, words.get((part.host, part.binary))) for part in _parts(pools)]
        return [
            one
            for one in found
            if (binary is None or one.binary == binary)
            and (host is None or one.host == host or one.host.startswith(f"{host}@"))
        ]

    async def enable(self, host: str, binary: str) -> None:
        """Let the part take what is new again. Raises NotFound for an unknown one."""
        await self._say(ServiceWord(host=host, binary=binary, changed_at=self._runtime.clock.now_us()))

    async def disable(self, host: str, binary: str, reason: str | None) -> None:
        """Let the part take nothing new. Raises NotFound for an unknown one."""
        at = self._runtime.clock.now_us()
        await self._say(ServiceWord(host=host, binary=binary, disabled=True, disabled_reason=reason, changed_at=at))

    async def freeze(self, host: str, *, frozen: bool) -> None:
        """Keep what is in a pool as it is, or no more. Raises Invalid where that is no pool's host."""
        pools = await self._pools.list()
        chosen = [pool.service_host for pool in pools if host in (pool.host, pool.service_host)]
        if not chosen:
            known = ", ".join(pool.service_host for pool in pools)
            raise Invalid(f"Invalid input received: {host[:64]!r} is no pool's host; there is {known}.")
        words = [
            ServiceWord(
                host=one,
                binary=VOLUME,
                disabled=frozen,
                disabled_reason=FROZEN_REASON if frozen else None,
                frozen=frozen,
                changed_at=self._runtime.clock.now_us(),
            )
            for one in chosen
        ]
        await self._runtime.store.write(_put_words, words)

    async def share_pool(self, host: str) -> dict[str, ProjectShare]:
        """What each project has in the pool of that host. Raises NotFound for an unknown or disabled one."""
        for one in await self.list(binary=VOLUME):
            if one.host == host and not one.disabled:
                return await self._runtime.store.read(rows.share_by_project, host.rpartition("@")[2])
        raise NotFound(f"Host {host[:64]} could not be found, or is disabled.")

    async def _say(self, word: ServiceWord) -> None:
        parts = _parts(await self._pools.list())
        if all((part.host, part.binary) != (word.host, word.binary) for part in parts):
            raise NotFound(f"Service {word.binary[:64]} could not be found on host {word.host[:64]}.")
        await self._runtime.store.write(_put_word, word)


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part, before anything that was said of it."""

    host: str
    binary: str
    zone: str
    is_up: bool
    at: int


def _parts(pools: Sequence[Pool]) -> list[Part]:
    """The scheduler, one part for each pool, and the one that makes backups."""
    first = pools[0]
    scheduler = Part(host=first.host, binary=SCHEDULER, zone=first.availability_zone, is_up=True, at=first.at)
    of_pools = [
        Part(
            host=pool.service_host,
            binary=VOLUME,
            zone=pool.availability_zone,
            is_up=pool.capacity is not None,
            at=pool.at,
        )
        for pool in pools
    ]
    return [scheduler, *of_pools, msgspec.structs.replace(scheduler, binary=BACKUP)]


def _view(part: Part, word: ServiceWord | None) -> ServiceView:
    return ServiceView(
        binary=part.binary,
        host=part.host,
        zone=part.zone,
        is_up=part.is_up,
        disabled=word is not None and word.disabled,
        disabled_reason=None if word is None else word.disabled_reason,
        frozen=word is not None and word.frozen,
        updated_at=part.at,
    )


def _put_words(tx: Tx, words: Sequence[ServiceWord]) -> None:
    for word in words:
        rows.put_word(tx, word)


def _put_word(tx: Tx, word: ServiceWord) -> None:
    """Enabling and disabling a frozen part leaves it frozen: only thawing ends that."""
    known = rows.load_word(tx, word.host, word.binary)
    if known is not None and known.frozen:
        raise Invalid(f"Service {word.binary} on host {word.host} is frozen; thaw it.")
    rows.put_word(tx, word)
