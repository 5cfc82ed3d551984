"""How volumes of a type are encrypted, in Cinder's words."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kevel.api.operations import Call, Reply
from kevel.api.volume.types.shapes import EncryptionChanges
from kevel.api.volume.values import show_time
from kevel.domain.errors import Invalid, NotFound
from kevel.store.volume_types import TypeEncryption

#: Bits; Cinder's columns hold no more.
KEY_SIZE_MAX: Final = 2**31 - 1


async def show_encryption(call: Call) -> Reply:
    """The type's encryption; an empty object where it has none."""
    found = await call.services.type_encryptions.get(call.actor, call.path["type_id"])
    return Reply(body={} if found is None else _show(found))


async def show_item(call: Call) -> Reply:
    """One word of the type's encryption."""
    type_id, key = call.path["type_id"], call.path["key"]
    found = await call.services.type_encryptions.get(call.actor, type_id)
    shown = {} if found is None else _show(found)
    if key not in shown:
        raise NotFound(f"Volume type {type_id[:64]} has no encryption with the key {key[:64]}.")
    return Reply(body={key: shown[key]})


async def create_encryption(call: Call) -> Reply:
    """Encrypt volumes of the type."""
    fields = {"cipher": None, "key_size": None, **_read(call.body.encryption)}
    made = await call.services.type_encryptions.create(call.actor, call.path["type_id"], fields)
    return Reply(body={"encryption": {"volume_type_id": made.volume_type_id, "encryption_id": made.id, **fields}})


async def update_encryption(call: Call) -> Reply:
    """Change a type's encryption."""
    changes = _read(call.body.encryption)
    path = call.path
    await call.services.type_encryptions.update(call.actor, path["type_id"], path["encryption_id"], changes)
    return Reply(body={"encryption": changes})


async def delete_encryption(call: Call) -> Reply:
    """Encrypt volumes of the type no more."""
    path = call.path
    await call.services.type_encryptions.delete(call.actor, path["type_id"], path["encryption_id"])
    return Reply()


def _read(fields: EncryptionChanges) -> dict[str, Any]:
    given = {name: value for name, value in msgspec.structs.asdict(fields).items() if value is not msgspec.UNSET}
    for name in ("provider", "cipher"):
        if "\0" in (given.get(name) or ""):
            raise Invalid(f"Invalid input for {name}: a text cannot have NUL in it.")
    if given.get("key_size") is not None:
        given["key_size"] = _read_key_size(given["key_size"])
    return given


def _read_key_size(value: int | str) -> int:
    try:
        size = int(value)
    except ValueError:
        size = -1
    if not 0 <= size <= KEY_SIZE_MAX:
        raise Invalid(f"Invalid input for key_size: {str(value)[:40]!r}; it has to be a whole number of bits from 0.")
    return size


def _show(encryption: TypeEncryption) -> dict[str, Any]:
    return {
        "volume_type_id": encryption.volume_type_id,
        "encryption_id": encryption.id,
        "provider": encryption.provider,
        "control_location": encryption.control_location,
        "cipher": encryption.cipher,
        "key_size": encryption.key_size,
        "created_at": show_time(encryption.created_at),
        "updated_at": show_time(encryption.updated_at),
        "deleted_at": None,
        "deleted": False,
    }
