"""Giving volumes other types, and moving their contents to other pools: the use cases."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kevel.control.pools.placing import check_fits, check_not_frozen, find_refusal, find_unmet
from kevel.control.pools.pools import PoolRoom, Pools, check_room, choose_room
from kevel.control.runtime import Runtime
from kevel.control.volume_types.keys import check_keeps_key
from kevel.control.volume_types.types import resolve_type
from kevel.domain.errors import Invalid, NotFound, Unavailable
from kevel.domain.model import Actor, OperationKind, Subject, Volume
from kevel.domain.pool_moves import PoolMove
from kevel.domain.type_specs import check_size
from kevel.store.operations import begin_operation, is_read
from kevel.store.quotas import check_room_for
from kevel.store.snapshots import live_snapshots
from kevel.store.transactions import Tx
from kevel.store.volume_lists import VolumeView, view_volume
from kevel.store.volume_types import VolumeType, load_type
from kevel.store.volumes import change_volume, find_volume, tell_hosts


class PoolMoves:
    """The use cases. Each check stands in the transaction that also writes."""

    def __init__(self, runtime: Runtime, pools: Pools) -> None:
        self._runtime = runtime
        self._pools = pools

    async def retype(self, actor: Actor, volume_id: str, type_ref: str, *, may_move: bool) -> None:
        """Give the volume another type: at once where its pool meets it, else (`may_move`) by a move.

        Raises NotFound, Invalid, OverLimit, or Unavailable when the volume's pool does not answer.
        """
        rooms = await self._pools.measure_all()
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(_retype, actor, volume_id, type_ref, rooms, may_move=may_move, at=at)

    async def migrate(self, actor: Actor, volume_id: str, host: str) -> None:
        """Start to move the volume's contents to the pool at that host. Raises NotFound, Invalid and OverLimit."""
        try:
            room = await self._pools.measure(self._pools.find(host).name)
        except (NotFound, Unavailable) as error:
            raise Invalid(f"Invalid host: No available service named {host[:255]}.") from error
        await self._runtime.store.write(_migrate, actor, volume_id, room, at=self._runtime.clock.now_us())


def _retype(
    tx: Tx, actor: Actor, volume_id: str, type_ref: str, rooms: Sequence[PoolRoom], *, may_move: bool, at: int
) -> None:
    view = view_volume(tx, find_volume(tx, volume_id, actor))
    volume = view.volume
    volume_type = resolve_type(tx, type_ref, actor)
    if view.status not in ("available", "in-use"):
        raise Invalid(
            f"Invalid volume: volume {volume_id} is {view.status}; to be retyped it has to be available or in-use."
        )
    if volume_type.id == volume.volume_type_id:
        raise Invalid(f"Invalid input received: volume {volume_id} has the type {volume_type.name} already.")
    check_size(volume_type.name, volume_type.extra_specs, volume.size_gib)
    check_keeps_key(tx, volume, volume_type)
    demand = {"volumes": 1, "gigabytes": volume.size_gib}
    check_room_for(tx, volume.project_id, demand, volume_type_id=volume_type.id, of_type_only=True)
    here = next((room for room in rooms if room.backend == volume.backend), None)
    if here is None:
        raise Unavailable(f"The storage pool {volume.backend} does not answer; try again later.")
    if may_move and find_unmet(volume_type, here.place) is not None:
        _begin_retype(tx, actor, view, volume_type, rooms, at)
        return
    check_fits(volume_type, here.place)
    if volume_type.multiattach != volume.multiattach:
        if view.status != "available":
            raise Invalid(f"Invalid volume: whether volume {volume_id} is multiattach can change only while available.")
        if volume_type.multiattach and volume.format != "raw":
            raise Invalid(f"Invalid volume: volume {volume_id} is a {volume.format} file and cannot be shared.")
    change_volume(tx, volume_id, volume_type_id=volume_type.id, multiattach=volume_type.multiattach, updated_at=at)
    # What the type limits reaches the guests that have the volume.
    tell_hosts(tx, volume_id)


def _begin_retype(
    tx: Tx, actor: Actor, view: VolumeView, volume_type: VolumeType, rooms: Sequence[PoolRoom], at: int
) -> None:
    """The volume is to get the type in another pool. Raises Invalid when none takes it."""
    volume = view.volume
    _check_movable(tx, view)
    others = [room for room in rooms if room.backend != volume.backend]
    taking = [room for room in others if find_refusal(tx, volume_type, room.place) is None]
    if not taking:
        raise Invalid(
            f"Invalid volume: no storage pool takes volume {volume.id} as one of the type {volume_type.name}: none "
            "that is enabled has what the type asks for."
        )
    room = choose_room(tx, taking, volume_type, volume.size_gib)
    move = PoolMove(
        from_pool=volume.backend,
        to_pool=room.backend,
        format=_choose_format(volume, room, multiattach=volume_type.multiattach),
        volume_type_id=volume_type.id,
        multiattach=volume_type.multiattach,
    )
    _begin_move(tx, actor, volume, OperationKind.RETYPING, move, room, at)


def _migrate(tx: Tx, actor: Actor, volume_id: str, room: PoolRoom, *, at: int) -> None:
    view = view_volume(tx, find_volume(tx, volume_id, actor))
    volume = view.volume
    if room.backend == volume.backend:
        raise Invalid(f"Invalid volume: volume {volume_id} lies in the storage pool {room.backend} already.")
    _check_movable(tx, view)
    volume_type = load_type(tx, volume.volume_type_id)
    if volume_type is None:
        raise AssertionError("a type outlives its volumes")
    refusal = find_refusal(tx, volume_type, room.place)
    if refusal is not None:
        raise Invalid(f"Invalid host: the storage pool {room.backend} does not take volume {volume_id}. {refusal}")
    check_room(tx, room, volume.size_gib)
    move = PoolMove(
        from_pool=volume.backend,
        to_pool=room.backend,
        format=_choose_format(volume, room, multiattach=volume.multiattach),
    )
    _begin_move(tx, actor, volume, OperationKind.MIGRATING, move, room, at)


def _check_movable(tx: Tx, view: VolumeView) -> None:
    """Raise Invalid for a volume whose contents have to stay where they are."""
    volume, why_not = view.volume, None
    if view.status != "available":
        why_not = f"is {view.status}; its contents move to another pool only while it is available"
    elif live_snapshots(tx, volume.id):
        why_not = "has snapshots, which stay in its pool; delete them first"
    elif volume.group_id is not None:
        why_not = f"is in group {volume.group_id}; take it out of the group first"
    elif is_read(tx, volume.id):
        why_not = "is being copied; wait for the end of that"
    if why_not is not None:
        raise Invalid(f"Invalid volume: volume {volume.id} {why_not}.")
    check_not_frozen(tx, volume.backend)


def _choose_format(volume: Volume, room: PoolRoom, *, multiattach: bool) -> str:
    if volume.encryption_key_id is not None:
        return volume.format
    return "raw" if multiattach else room.volume_format


def _begin_move(
    tx: Tx, actor: Actor, volume: Volume, kind: OperationKind, move: PoolMove, room: PoolRoom, at: int
) -> None:
    change_volume(tx, volume.id, migration_status=None, updated_at=at)
    begin_operation(
        tx,
        Subject.VOLUME,
        volume.id,
        kind,
        volume_id=volume.id,
        actor="user",
        request_id=actor.request_id,
        at=at,
        deadline_at=room.limits.volume_deadline(at, copied_gib=volume.size_gib),
        args=msgspec.to_builtins(move),
    )
