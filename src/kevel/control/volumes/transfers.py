"""Transfers: a project offers a volume, and whoever knows the offer's key takes it. The use cases."""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from kevel.control.runtime import Runtime
from kevel.control.volume_types.keys import refuse_encrypted
from kevel.domain.errors import Invalid, NotFound
from kevel.domain.model import Actor
from kevel.store import transfers as rows
from kevel.store.journal import note_volume
from kevel.store.pages import Listed, Page
from kevel.store.quotas import check_room_for
from kevel.store.transactions import Tx
from kevel.store.transfers import Transfer
from kevel.store.volume_lists import VolumeView, view_volume
from kevel.store.volumes import change_volume, find_volume, load_volume


class Transfers:
    """Offers of volumes."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def create(
        self, actor: Actor, volume_id: str, name: str | None, *, no_snapshots: bool, encrypted: bool = False
    ) -> tuple[Transfer, str]:
        """Offer a volume that is available; the offer, and its key, which nobody is told again.

        `encrypted`: an encrypted one, too; whoever takes it can use it, as the key of its contents goes with it.
        """
        runtime = self._runtime
        key, salt = runtime.ids.secret(), runtime.ids.secret()
        transfer = Transfer(
            id=runtime.ids.uuid(),
            volume_id=volume_id,
            project_id=actor.project_id,
            name=name,
            no_snapshots=no_snapshots,
            salt=salt,
            key_hash=_hash_key(salt, key),
            created_at=runtime.clock.now_us(),
        )
        return await runtime.store.write(_create, actor, transfer, encrypted=encrypted), key

    async def get(self, actor: Actor, transfer_id: str) -> Transfer:
        """The open offer of the actor's project; NotFound."""
        return await self._runtime.store.read_point(_find, actor, transfer_id)

    async def list(
        self, project_id: str | None, page: Page, *, name: str | None, volume_id: str | None
    ) -> Listed[Transfer]:
        """One page of a project's open offers (None: of all)."""
        return await self._runtime.store.read(rows.list_transfers, project_id, page, name=name, volume_id=volume_id)

    async def accept(self, actor: Actor, transfer_id: str, key: str) -> Transfer:
        """Take the volume into the actor's project. Raises Invalid for a wrong key."""
        return await self._runtime.store.write(_accept, actor, transfer_id, key, self._runtime.clock.now_us())

    async def delete(self, actor: Actor, transfer_id: str) -> None:
        """Take the offer back."""
        await self._runtime.store.write(_delete, actor, transfer_id, self._runtime.clock.now_us())


def _hash_key(salt: str, key: str) -> str:
    """The key has 256 random bits, so one round is as good as many."""
    return hmac.new(salt.encode(), key.encode(), hashlib.sha256).hexdigest()


def _create(tx: Tx, actor: Actor, transfer: Transfer, *, encrypted: bool) -> Transfer:
    view = view_volume(tx, find_volume(tx, transfer.volume_id, actor))
    volume = view.volume
    if view.status != "available":
        raise Invalid(
            f"Invalid volume: volume {volume.id} is {view.status}; to be offered to another project it has to be "
            "available."
        )
    if volume.group_id is not None:
        raise Invalid(f"Invalid volume: volume {volume.id} is in group {volume.group_id}; take it out of it first.")
    if not encrypted:
        refuse_encrypted(volume, "offered to another project")
    elif transfer.no_snapshots and volume.encryption_key_id is not None:
        raise Invalid(f"Invalid volume: volume {volume.id} is encrypted; it is offered with its snapshots only.")
    unready = None if transfer.no_snapshots else rows.unready_snapshot(tx, volume.id)
    if unready is not None:
        raise Invalid(
            f"Invalid snapshot: snapshot {unready} is not available; a volume is offered with its snapshots unless "
            "no_snapshots is true."
        )
    transfer = msgspec.structs.replace(transfer, project_id=volume.project_id)
    rows.insert_transfer(tx, transfer)
    change_volume(tx, volume.id, transfer_id=transfer.id, updated_at=transfer.created_at)
    _note(tx, view, actor, "none", "offered", transfer.created_at)
    return transfer


def _find(tx: Tx, actor: Actor, transfer_id: str) -> Transfer:
    transfer = rows.load_transfer(tx, transfer_id)
    if transfer is None or not (actor.is_admin or transfer.project_id == actor.project_id):
        raise NotFound(f"Transfer {transfer_id[:64]} could not be found.")
    return transfer


def _accept(tx: Tx, actor: Actor, transfer_id: str, key: str, at: int) -> Transfer:
    """Whoever knows id and key may take it, so the project that offers is not looked at."""
    transfer = rows.load_transfer(tx, transfer_id)
    if transfer is None:
        raise NotFound(f"Transfer {transfer_id[:64]} could not be found.")
    if not hmac.compare_digest(_hash_key(transfer.salt, key), transfer.key_hash):
        raise Invalid(f"Invalid auth key: it is not the key of transfer {transfer_id}.")
    view = _view(tx, transfer)
    if view.status != "awaiting-transfer":
        raise Invalid(f"Invalid volume: volume {view.volume.id} is {view.status}; it cannot be handed over now.")
    if actor.project_id != view.volume.project_id:
        _check_room(tx, actor, transfer, view)
    change_volume(
        tx, view.volume.id, transfer_id=None, project_id=actor.project_id, user_id=actor.user_id, updated_at=at
    )
    if not transfer.no_snapshots:
        rows.move_snapshots(tx, view.volume.id, project_id=actor.project_id, user_id=actor.user_id, at=at)
    _note(tx, view, actor, "offered", "accepted", at)
    return transfer


def _check_room(tx: Tx, actor: Actor, transfer: Transfer, view: VolumeView) -> None:
    """The project that takes the volume may have it, with what comes along. Raises OverLimit."""
    volume = view.volume
    sizes = [] if transfer.no_snapshots else rows.snapshot_sizes(tx, volume.id)
    demand = {
        "per_volume_gigabytes": volume.size_gib,
        "volumes": 1,
        "snapshots": len(sizes),
        "gigabytes": volume.size_gib + sum(sizes),
    }
    check_room_for(tx, actor.project_id, demand, volume_type_id=volume.volume_type_id)


def _delete(tx: Tx, actor: Actor, transfer_id: str, at: int) -> None:
    transfer = _find(tx, actor, transfer_id)
    change_volume(tx, transfer.volume_id, transfer_id=None, updated_at=at)
    _note(tx, _view(tx, transfer), actor, "offered", "withdrawn", at)


def _view(tx: Tx, transfer: Transfer) -> VolumeView:
    volume = load_volume(tx, transfer.volume_id)
    if volume is None:
        raise AssertionError("an open transfer's volume has a row")
    return view_volume(tx, volume)


def _note(tx: Tx, view: VolumeView, actor: Actor, before: str, after: str, at: int) -> None:
    note_volume(tx, actor, view.volume, "transfer", before, after, at, detail={"project_id": actor.project_id})
