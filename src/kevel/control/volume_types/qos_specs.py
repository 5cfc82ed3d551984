"""Qualities of service: the use cases. Front-end limits reach the guests' disks of volumes of the associated types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from kevel.control.runtime import Runtime
from kevel.domain.errors import Conflict, Invalid, NotFound, OverLimit
from kevel.domain.tuning import find_spec_fault
from kevel.store import qos_specs as rows
from kevel.store.qos_specs import FRONT_END, QosSpecs, tell_hosts_of_type
from kevel.store.transactions import Tx
from kevel.store.volume_types import VolumeType, change_type, list_types_of_qos, load_type

CONSUMERS: Final = ("front-end", "back-end", "both")
#: Cinder's choice where none was made.
CONSUMER_DEFAULT: Final = "back-end"
#: The key among the specs by which the consumer is given.
CONSUMER: Final = "consumer"
#: Specs of one set.
SPECS_MAX: Final = 128
#: Sets of one Kevel. Lists of them are read whole.
QOS_SPECS_MAX: Final = 1000


class Qos:
    """All of it is for admins."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def list(self) -> list[QosSpecs]:
        """All specs, newest first."""
        return await self._runtime.store.read(rows.list_qos_specs)

    async def get(self, specs_id: str) -> QosSpecs:
        """The specs of that id; NotFound."""
        return await self._runtime.store.read(_find, specs_id)

    async def create(self, name: str, specs: Mapping[str, str]) -> QosSpecs:
        """New specs, of that consumer among them. Raises Conflict when the name is taken."""
        plain = {key: value for key, value in specs.items() if key != CONSUMER}
        new = QosSpecs(
            id=self._runtime.ids.uuid(),
            name=name,
            consumer=specs.get(CONSUMER, CONSUMER_DEFAULT),
            specs=plain,
            created_at=self._runtime.clock.now_us(),
            updated_at=None,
        )
        await self._runtime.store.write(_create, new)
        return new

    async def set_keys(self, specs_id: str, specs: Mapping[str, str]) -> None:
        """Add specs or give them new values, the consumer among them; running guests follow."""
        await self._runtime.store.write(_set_keys, specs_id, dict(specs), self._runtime.clock.now_us())

    async def unset_keys(self, specs_id: str, keys: Sequence[str]) -> None:
        """Remove specs, all or none; running guests follow. Raises NotFound for a key that is not there."""
        await self._runtime.store.write(_unset_keys, specs_id, tuple(keys), self._runtime.clock.now_us())

    async def delete(self, specs_id: str, *, force: bool) -> None:
        """Delete specs that no type has; with `force` take them from all types first."""
        await self._runtime.store.write(_delete, specs_id, force=force)

    async def list_types(self, specs_id: str) -> Sequence[VolumeType]:
        """The types that have these specs; NotFound."""
        return await self._runtime.store.read(_list_types, specs_id)

    async def associate(self, specs_id: str, type_id: str) -> None:
        """Let the specs hold for volumes of the type. Raises Invalid where it has others."""
        await self._runtime.store.write(_associate, specs_id, type_id)

    async def disassociate(self, specs_id: str, type_id: str) -> None:
        """Let them hold for the type no more; that they never did is as good."""
        await self._runtime.store.write(_disassociate, specs_id, type_id)

    async def disassociate_all(self, specs_id: str) -> None:
        """Let them hold for no type."""
        await self._runtime.store.write(_disassociate_all, specs_id)


def _find(tx: Tx, specs_id: str) -> QosSpecs:
    found = rows.load_qos_specs(tx, specs_id)
    if found is None:
        raise NotFound(f"QoS specs {specs_id[:64]} could not be found.")
    return found


def _check(found: QosSpecs) -> None:
    if found.consumer not in CONSUMERS:
        raise Invalid(f"The consumer of QoS specs is {', '.join(CONSUMERS)}; {found.consumer[:40]!r} is none of them.")
    if len(found.specs) > SPECS_MAX:
        raise Invalid(f"QoS specs can have {SPECS_MAX} keys; these have {len(found.specs)}.")
    fault = find_spec_fault(found.specs) if found.consumer in FRONT_END else None
    if fault is not None:
        raise Invalid(f"Invalid QoS specs: {fault}")


def _create(tx: Tx, new: QosSpecs) -> None:
    _check(new)
    if rows.load_qos_specs_named(tx, new.name) is not None:
        raise Conflict(f"QoS specs {new.name} exist already.")
    if rows.count_qos_specs(tx) >= QOS_SPECS_MAX:
        raise OverLimit(f"There can be {QOS_SPECS_MAX} QoS specs; delete some before making others.")
    rows.insert_qos_specs(tx, new)


def _set_keys(tx: Tx, specs_id: str, specs: dict[str, str], at: int) -> None:
    found = _find(tx, specs_id)
    consumer = specs.pop(CONSUMER, found.consumer)
    _change(tx, msgspec.structs.replace(found, consumer=consumer, specs=found.specs | specs, updated_at=at))


def _unset_keys(tx: Tx, specs_id: str, keys: Sequence[str], at: int) -> None:
    found = _find(tx, specs_id)
    for key in keys:
        if key not in found.specs:
            raise NotFound(f"QoS specs {found.name} have no key {key[:255]}.")
    left = {key: value for key, value in found.specs.items() if key not in keys}
    _change(tx, msgspec.structs.replace(found, specs=left, updated_at=at))


def _change(tx: Tx, changed: QosSpecs) -> None:
    _check(changed)
    rows.change_qos_specs(tx, changed.id, consumer=changed.consumer, specs=changed.specs, updated_at=changed.updated_at)
    for volume_type in list_types_of_qos(tx, changed.id):
        tell_hosts_of_type(tx, volume_type.id)


def _delete(tx: Tx, specs_id: str, *, force: bool) -> None:
    found = _find(tx, specs_id)
    if force:
        _disassociate_all(tx, specs_id)
    elif list_types_of_qos(tx, specs_id):
        raise Invalid(f"QoS specs {found.name} are in use by volume types; disassociate them, or delete with force.")
    rows.delete_qos_specs(tx, specs_id)


def _list_types(tx: Tx, specs_id: str) -> list[VolumeType]:
    _find(tx, specs_id)
    return list_types_of_qos(tx, specs_id)


def _find_type(tx: Tx, type_id: str) -> VolumeType:
    found = load_type(tx, type_id)
    if found is None:
        raise NotFound(f"Volume type {type_id[:64]} could not be found.")
    return found


def _associate(tx: Tx, specs_id: str, type_id: str) -> None:
    _find(tx, specs_id)
    volume_type = _find_type(tx, type_id)
    if volume_type.qos_specs_id not in (None, specs_id):
        raise Invalid(f"Volume type {volume_type.name} has other QoS specs: {volume_type.qos_specs_id}.")
    _give(tx, type_id, specs_id)


def _disassociate(tx: Tx, specs_id: str, type_id: str) -> None:
    _find(tx, specs_id)
    if _find_type(tx, type_id).qos_specs_id == specs_id:
        _give(tx, type_id, None)


def _disassociate_all(tx: Tx, specs_id: str) -> None:
    for volume_type in _list_types(tx, specs_id):
        _give(tx, volume_type.id, None)


def _give(tx: Tx, type_id: str, specs_id: str | None) -> None:
    change_type(tx, type_id, qos_specs_id=specs_id)
    tell_hosts_of_type(tx, type_id)
