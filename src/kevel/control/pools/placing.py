"""Where a new volume goes, and what happens when no pool takes it.

As in Cinder the request has been accepted by then: the volume is there, in error, and a message tells why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kevel import __version__
from kevel.control.operations.failures import tell_failure
from kevel.domain.errors import Invalid, Unavailable
from kevel.domain.messages import Action, Detail
from kevel.domain.model import GIB, Reason, Volume
from kevel.domain.type_specs import unmet_spec
from kevel.storage.base import Backend, Capacity
from kevel.store.operations import finish_operation
from kevel.store.transactions import Tx
from kevel.store.volume_services import BACKUP, SCHEDULER, VOLUME, is_disabled, is_frozen, load_word
from kevel.store.volume_types import VolumeType
from kevel.store.volumes import change_volume, volume_operation

VENDOR: Final = "Kevel"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A pool that may take a volume."""

    host: str
    backend: str
    #: What the extra specs of types are held against.
    capabilities: Mapping[str, Any]

    @property
    def service_host(self) -> str:
        """The pool's host as its service has it: `host@backend`."""
        return f"{self.host}@{self.backend}"


def list_capabilities(backend: Backend, capacity: Capacity | None, overcommit_ratio: float) -> dict[str, Any]:
    """What a pool is and can do, by Cinder's names. Without a capacity it does not answer."""
    found: dict[str, Any] = {
        "volume_backend_name": backend.name,
        "pool_name": backend.name,
        "vendor_name": VENDOR,
        "driver_version": __version__,
        "storage_protocol": backend.protocol,
        "backend_state": "down" if capacity is None else "up",
        "max_over_subscription_ratio": f"{overcommit_ratio:g}",
        "reserved_percentage": 0,
        "thin_provisioning_support": True,
        "thick_provisioning_support": False,
        "multiattach": True,
        "online_extend_support": True,
        "replication_enabled": False,
    }
    if capacity is not None:
        found["total_capacity_gb"] = round(capacity.total_bytes / GIB, 2)
        found["free_capacity_gb"] = round(capacity.free_bytes / GIB, 2)
    return found


def find_refusal(tx: Tx, volume_type: VolumeType, place: Place) -> str | None:
    """Why the pool takes no volume of the type; None: it does."""
    for host, binary in ((place.host, SCHEDULER), (place.service_host, VOLUME)):
        word = load_word(tx, host, binary)
        if word is not None and word.disabled:
            reason = f": {word.disabled_reason}" if word.disabled_reason else ""
            return f"No pool takes the volume: {binary} on {host} is disabled{reason}."
    unmet = find_unmet(volume_type, place)
    return None if unmet is None else f"No pool takes the volume: {unmet} no pool has."


def check_fits(volume_type: VolumeType, place: Place) -> None:
    """Raise Invalid if the pool does not meet the type's extra specs."""
    unmet = find_unmet(volume_type, place)
    if unmet is not None:
        raise Invalid(f"Invalid volume: {unmet} the storage pool {place.backend} has not.")


def find_unmet(volume_type: VolumeType, place: Place) -> str | None:
    """What the type asks for and the pool has not, as the beginning of a sentence; None: it meets the type."""
    unmet = unmet_spec(volume_type.extra_specs, place.capabilities)
    if unmet is None:
        return None
    wanted = f"{unmet} = {volume_type.extra_specs[unmet]}"
    return f"the type {volume_type.name} asks for {wanted[:200]}, which"


def fail_placement(tx: Tx, volume: Volume, refusal: str, at: int) -> None:
    """End the volume's creation, which has just begun, before anything is made."""
    operation = volume_operation(tx, volume.id)
    if operation is None:
        raise AssertionError(f"volume {volume.id} is not being created")
    reason = Reason(code="creating_failed", message=refusal, at=at)
    finish_operation(tx, operation, actor="control", at=at, error=reason)
    change_volume(tx, volume.id, fault=reason, updated_at=at)
    told = (Action.SCHEDULE_VOLUME, Detail.NO_BACKEND_AVAILABLE)
    tell_failure(tx, operation, told, project_id=volume.project_id, resource_id=volume.id, text=refusal, at=at)


def check_not_frozen(tx: Tx, backend: str) -> None:
    """Raise Invalid while an admin keeps what is in the pool as it is."""
    if is_frozen(tx, backend):
        raise Invalid(f"The storage pool {backend} is frozen: what it has is not changed until an admin thaws it.")


def check_backups_taken(tx: Tx) -> None:
    """Raise Unavailable while an admin has disabled the part that makes backups."""
    if is_disabled(tx, BACKUP):
        raise Unavailable(f"No backups are made now: an admin has disabled {BACKUP}.")
