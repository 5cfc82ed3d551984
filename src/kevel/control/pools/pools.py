"""The storage pools: what they are and can do, what room they have, and which one takes a new volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kevel.control.pools.placing import Place, find_refusal, list_capabilities
from kevel.control.runtime import Runtime
from kevel.domain.errors import Invalid, NotFound, OverLimit, StepError, Unavailable
from kevel.domain.limits import Limits
from kevel.domain.model import GIB, MIB, Volume
from kevel.runtime.files import FREE_BYTES_MIN
from kevel.storage.base import Backend, Capacity
from kevel.store.transactions import Tx
from kevel.store.volume_services import VOLUME
from kevel.store.volume_types import VolumeType
from kevel.store.volumes import provisioned_gib


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A storage pool, as an operator sees it."""

    #: As in `host@backend#pool`.
    address: str
    backend: str
    host: str
    availability_zone: str
    #: None: it does not answer.
    capacity: Capacity | None
    provisioned_gib: int
    #: By Cinder's names.
    capabilities: Mapping[str, Any]
    at: int

    @property
    def service_host(self) -> str:
        """The pool's host as its service has it: `host@backend`."""
        return f"{self.host}@{self.backend}"


class PoolRoom(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction has to know of a pool, measured before it."""

    backend: str
    volume_format: str
    capacity: Capacity
    limits: Limits
    place: Place


class Pools:
    """The pools of one Kevel: each is a back end of its own, and is named like it. The first is the default."""

    def __init__(
        self,
        runtime: Runtime,
        backends: Mapping[str, Backend],
        limits: Limits,
        *,
        host: str,
        availability_zone: str,
    ) -> None:
        self.backends = backends
        self.host = host
        self.availability_zone = availability_zone
        self._runtime = runtime
        self._limits = limits

    def address(self, volume: Volume) -> str:
        """Where the volume lies: `host@backend#pool`."""
        return f"{self.host}@{volume.backend}#{volume.backend}"

    def find(self, host: str) -> Backend:
        """The back end at `host@backend` or `host@backend#pool`; NotFound."""
        for backend in self.backends.values():
            service = f"{self.host}@{backend.name}"
            if host in (service, f"{service}#{backend.name}"):
                return backend
        raise NotFound(f"Service {VOLUME} could not be found on host {host[:255]}.")

    async def list(self) -> list[Pool]:
        """All pools as they are now."""
        return [await self._show(backend) for backend in self.backends.values()]

    async def _show(self, backend: Backend) -> Pool:
        try:
            capacity: Capacity | None = await backend.capacity()
        except StepError:
            capacity = None
        return Pool(
            address=f"{self.host}@{backend.name}#{backend.name}",
            backend=backend.name,
            host=self.host,
            availability_zone=self.availability_zone,
            capacity=capacity,
            provisioned_gib=await self._runtime.store.read(provisioned_gib, backend.name),
            capabilities=list_capabilities(backend, capacity, self._limits.overcommit_ratio),
            at=self._runtime.clock.now_us(),
        )

    async def measure(self, backend_name: str) -> PoolRoom:
        """The room of one pool. Raises Invalid for one that is not configured any more, and Unavailable."""
        backend = self.backends.get(backend_name)
        if backend is None:
            raise Invalid(f"Invalid volume: the storage back end {backend_name} is not configured any more.")
        try:
            capacity = await backend.capacity()
        except StepError as error:
            raise Unavailable(f"The storage pool {backend.name} does not answer; try again later.") from error
        return PoolRoom(
            backend=backend.name,
            volume_format=backend.volume_format,
            capacity=capacity,
            limits=self._limits,
            place=Place(
                host=self.host,
                backend=backend.name,
                capabilities=list_capabilities(backend, capacity, self._limits.overcommit_ratio),
            ),
        )

    async def measure_all(self) -> tuple[PoolRoom, ...]:
        """The room of all pools that answer. Raises Unavailable when none does."""
        rooms: list[PoolRoom] = []
        silent: Unavailable | None = None
        for name in self.backends:
            try:
                rooms.append(await self.measure(name))
            except Unavailable as error:
                silent = error
        if silent is not None and not rooms:
            raise silent
        return tuple(rooms)


def choose_room(
    tx: Tx, rooms: Sequence[PoolRoom], volume_type: VolumeType, size_gib: int, *, only: str | None = None
) -> PoolRoom:
    """The pool for a new volume: of those that take its type, the one with most free space; the default among equals.

    `only`: the one where its source lies, from which it is copied. When no pool takes it, one of them all the same: the
    volume is made there, in error. Raises OverLimit when none that takes it has room, and Unavailable when `only` does
    not answer.
    """
    asked = [room for room in rooms if only is None or room.backend == only]
    if not asked:
        raise Unavailable(f"The storage pool {only} does not answer; try again later.")
    taking = [room for room in asked if find_refusal(tx, volume_type, room.place) is None]
    refused: OverLimit | None = None
    for room in sorted(taking or asked, key=lambda one: -one.capacity.free_bytes):
        try:
            check_room(tx, room, size_gib)
        except OverLimit as error:
            refused = refused or error
        else:
            return room
    if refused is None:
        raise AssertionError("a pool was asked, and neither took the volume nor refused it")
    raise refused


def check_room(tx: Tx, room: PoolRoom, more_gib: int) -> None:
    """Raise OverLimit when the pool has no room for that much more."""
    if room.capacity.free_bytes < FREE_BYTES_MIN:
        free_mib = room.capacity.free_bytes // MIB
        raise OverLimit(
            f"The storage pool {room.backend} is full: {free_mib} MiB are free, and {FREE_BYTES_MIN // MIB} MiB are "
            "kept back."
        )
    limit_gib = int(room.capacity.total_bytes * room.limits.overcommit_ratio / GIB)
    provisioned = provisioned_gib(tx, room.backend)
    if provisioned + more_gib > limit_gib:
        raise OverLimit(
            f"The storage pool {room.backend} cannot take {more_gib} GiB more: {provisioned} GiB are provisioned, and "
            f"the limit is {limit_gib} GiB ({room.limits.overcommit_ratio:g} times the pool's size)."
        )
