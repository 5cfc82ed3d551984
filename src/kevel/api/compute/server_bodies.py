"""The bodies of requests about servers, and what of Nova's many keys is refused because it would have no effect."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from kevel.api.compute.server_disks import read_disks
from kevel.api.compute.shapes import UUID, read_bool, refuse_newer_keys, v
from kevel.api.compute.tags.operations import Tags
from kevel.api.operations import Call
from kevel.control.servers.records import ServerChanges, check_name
from kevel.control.servers.servers import COUNT_MAX, NewServer
from kevel.domain.errors import Forbidden, Invalid
from kevel.domain.model import BootKind
from kevel.domain.server_disks import DiskSource

Name = Annotated[str, Meta(min_length=1, max_length=255)]
#: Text without NUL, which not every database can store.
Text = Annotated[str, Meta(max_length=255, pattern=r"^[^\x00]*\Z")]
Description = Text | None
MetadataKey = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9\-_:. ]+\Z")]
Metadata = dict[MetadataKey, Text]
#: Dots came with microversion 2.94.
Hostname = Annotated[str, Meta(min_length=2, max_length=255, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9.\-]*[a-zA-Z0-9]\Z")]
DiskConfig = Literal["AUTO", "MANUAL"]
Count = Annotated[int, Meta(ge=1)] | Annotated[str, Meta(pattern=r"^[0-9]{1,9}\Z")]


class ServerKeys(Struct, forbid_unknown_fields=True):
    """Every key that Nova's `server` of a POST may have. UNSET: not sent."""

    name: Name
    flavor: str | int = field(name="flavorRef")
    image: str = field(name="imageRef", default="")
    networks: Any = UNSET
    metadata: Metadata | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    availability_zone: str | None = None
    host: Name | UnsetType = UNSET
    hypervisor_hostname: Name | UnsetType = UNSET
    min_count: Count | UnsetType = UNSET
    max_count: Count | UnsetType = UNSET
    return_reservation_id: bool | str | int = False
    disks: Any = field(name="block_device_mapping_v2", default=UNSET)
    disks_v1: Any = field(name="block_device_mapping", default=UNSET)
    disk_config: DiskConfig | UnsetType = field(name="OS-DCF:diskConfig", default=UNSET)
    access_v4: str | UnsetType | None = field(name="accessIPv4", default=UNSET)
    access_v6: str | UnsetType | None = field(name="accessIPv6", default=UNSET)
    #: Taken, and neither kept nor handed to the guest: so does Nova where nothing can set a password in a guest.
    admin_password: Text | UnsetType = field(name="adminPass", default=UNSET)
    key_name: Name | None = None
    user_data: Any = UNSET
    config_drive: Any = UNSET
    personality: Any = UNSET
    security_groups: Any = UNSET
    tags: Tags | UnsetType = UNSET
    trusted_image_certificates: Any = UNSET
    hostname: Hostname | UnsetType = UNSET


class ServerBody(Struct, forbid_unknown_fields=True):
    """The body of POST /servers. Hints may stand beside the server, under either name."""

    server: ServerKeys
    hints: Any = field(name="os:scheduler_hints", default=None)
    hints_too: Any = field(name="OS-SCH-HNT:scheduler_hints", default=None)


class UpdateKeys(Struct, forbid_unknown_fields=True):
    """The keys of a PUT."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    disk_config: DiskConfig | UnsetType = field(name="OS-DCF:diskConfig", default=UNSET)
    access_v4: str | UnsetType | None = field(name="accessIPv4", default=UNSET)
    access_v6: str | UnsetType | None = field(name="accessIPv6", default=UNSET)
    hostname: Hostname | UnsetType = UNSET
    pinned_availability_zone: Text | UnsetType | None = UNSET


class UpdateBody(Struct, forbid_unknown_fields=True):
    """The body of PUT /servers/{server_id}."""

    server: UpdateKeys


class RebootKeys(Struct, forbid_unknown_fields=True):
    """How to reboot."""

    kind: str = field(name="type")


class RebootBody(Struct, forbid_unknown_fields=True):
    """The action `reboot`."""

    reboot: RebootKeys


class ResetKeys(Struct, forbid_unknown_fields=True):
    """What the server is to be shown as."""

    state: Literal["active", "error"]


class ResetBody(Struct, forbid_unknown_fields=True):
    """The action `os-resetState`."""

    reset: ResetKeys = field(name="os-resetState")


class LockKeys(Struct, forbid_unknown_fields=True):
    """Why it is locked."""

    locked_reason: Annotated[Text, Meta(min_length=1)]


class LockBody(Struct, forbid_unknown_fields=True):
    """The action `lock` from 2.73 on."""

    lock: LockKeys | None


class MetadataBody(Struct, forbid_unknown_fields=True):
    """Several pairs."""

    metadata: Metadata


class MetaBody(Struct, forbid_unknown_fields=True):
    """One pair."""

    meta: Annotated[Metadata, Meta(min_length=1, max_length=1)]


#: Characters of a host name until 2.93.
HOSTNAME_CHARACTERS_MAX: Final = 63
#: Hints that name servers.
_SERVER_HINTS: Final = ("same_host", "different_host")
#: Keys that came later than 2.1, by the minor version.
_SINCE: Final = {
    "description": 19,
    "tags": 52,
    "trusted_image_certificates": 63,
    "host": 74,
    "hypervisor_hostname": 74,
    "hostname": 90,
    "pinned_availability_zone": 104,
}
#: Keys of both POST and PUT that would have no effect, what may be sent nevertheless, and why the rest is refused.
_REFUSED: Final[Mapping[str, tuple[tuple[object, ...], str]]] = {
    "user_data": (("", None), "there is no metadata service and no config drive to hand it to the guest"),
    "config_drive": (("", None, False, "false", "False"), "there is no config drive"),
    "personality": (([],), "no files are put into guests"),
    "security_groups": (([],), "servers have no networks"),
    "trusted_image_certificates": (([], None), "images have no signatures"),
}


def sent_keys(keys: Struct) -> dict[str, Any]:
    """The keys that were sent, under their JSON names."""
    names = zip(keys.__struct_fields__, keys.__struct_encode_fields__, strict=True)
    sent = {name: getattr(keys, attribute) for attribute, name in names}
    return {name: value for name, value in sent.items() if value is not UNSET}


def refuse_without_effect(sent: Mapping[str, Any]) -> None:
    """Raise Invalid for a key that asks for what Kevel would have to ignore."""
    for name, (harmless, why) in _REFUSED.items():
        if name in sent and not any(sent[name] is value or sent[name] == value for value in harmless):
            raise Invalid(f"Invalid input for server.{name}: it is not supported by this Kevel: {why}.")


def name_boot_image(call: Call) -> str:
    """The image whose properties say of which block devices a new server is made; "" for none.

    It is the request's image, or that of which its root volume is made.
    """
    keys: ServerKeys = call.body.server
    items = keys.disks if isinstance(keys.disks, list) else []
    roots = [
        item.get("uuid") or item.get("image_id")
        for item in items
        if isinstance(item, dict) and str(item.get("boot_index")) == "0" and item.get("source_type") == "image"
    ]
    named = keys.image or next(iter(roots), "")
    return str(named) if _is_id(named) else ""


def read_new_server(call: Call, properties: Mapping[str, str]) -> NewServer:
    """What a POST asks for; `properties` are those of `name_boot_image`.

    Raises Invalid or Forbidden for what Kevel would have to ignore.
    """
    body: ServerBody = call.body
    keys = body.server
    sent = sent_keys(keys)
    refuse_newer_keys(call, "server", sent, _SINCE)
    refuse_without_effect(sent)
    hints = _read_hints(body)
    check_name(keys.name)
    metadata = {} if keys.metadata is UNSET else keys.metadata
    image_id = _read_image(keys)
    disks, root_bus = read_disks(call, sent, image_id, properties)
    _check_networks(call, keys.networks)
    zone, host = _read_place(call, keys)
    count_min, count_max = _read_counts(keys)
    if count_max > 1 and keys.hostname is not UNSET:
        raise Invalid("Invalid input for hostname: several servers cannot have one host name; leave it out.")
    if count_max > 1 and any(disk.source is DiskSource.VOLUME for disk in disks):
        raise Invalid("Cannot attach one or more volumes to multiple instances")
    description = keys.name if call.version < v(19) else (None if keys.description is UNSET else keys.description)
    return NewServer(
        name=keys.name,
        description=description,
        flavor=str(keys.flavor),
        image_id=image_id,
        metadata=metadata,
        disks=disks,
        root_bus=root_bus,
        takes_shared=call.version >= v(60),
        tags=frozenset() if keys.tags is UNSET else frozenset(keys.tags),
        key_name=keys.key_name,
        access_v4=_read_address("accessIPv4", keys.access_v4 or None, IPv4Address),
        access_v6=_read_address("accessIPv6", keys.access_v6 or None, IPv6Address),
        hostname="" if keys.hostname is UNSET else read_hostname(call, keys.hostname),
        auto_disk=keys.disk_config == "AUTO",
        hints=hints,
        group_id=hints.get("group"),
        same_host=tuple(_list_hint(hints, "same_host")),
        different_host=tuple(_list_hint(hints, "different_host")),
        zone=zone,
        host=host,
        count_min=count_min,
        count_max=count_max,
    )


def _read_hints(body: ServerBody) -> dict[str, Any]:
    """The hints, as sent. Raises Invalid for one that would have no effect."""
    if body.hints and body.hints_too:
        raise Invalid("Invalid input for scheduler_hints: they stand there twice.")
    hints = body.hints or body.hints_too or {}
    if not isinstance(hints, dict) or not hints.keys() <= {"group", *_SERVER_HINTS}:
        raise Invalid(
            "Invalid input for scheduler_hints: this Kevel knows `group`, a server group, and "
            f"{' and '.join(_SERVER_HINTS)}, servers."
        )
    if "group" in hints and not _is_id(hints["group"]):
        raise Invalid("Server group scheduler hint must be a UUID.")
    for name in _SERVER_HINTS:
        if not all(map(_is_id, _list_hint(hints, name))) or len(_list_hint(hints, name)) > COUNT_MAX:
            raise Invalid(f"Invalid input for scheduler_hints.{name}: it has to be {COUNT_MAX} ids of servers at most.")
    return hints


def _list_hint(hints: Mapping[str, Any], name: str) -> list[Any]:
    """The servers that a hint names, one or several."""
    value = hints.get(name, [])
    return value if isinstance(value, list) else [value]


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and UUID.fullmatch(value) is not None


def wants_reservation(call: Call) -> bool:
    """Is only the reservation to be answered?"""
    keys: ServerKeys = call.body.server
    return read_bool("return_reservation_id", keys.return_reservation_id)


def _read_image(keys: ServerKeys) -> str:
    if keys.image and not UUID.fullmatch(keys.image):
        raise Invalid(f"Invalid input for server.imageRef: {keys.image[:64]!r} is no image's id.")
    return keys.image


def _check_networks(call: Call, networks: Any) -> None:
    if networks is UNSET:
        if call.version >= v(37):
            raise Invalid('Invalid input for server: \'networks\' is a required property; use "none" or "auto".')
        return
    if networks == [] or (call.version >= v(37) and networks in ("none", "auto")):
        return
    if isinstance(networks, list):
        raise Invalid(
            'Invalid input for server.networks: servers of this Kevel have no networks; use "none" or "auto".'
        )
    raise Invalid('Invalid input for server.networks: it has to be "none" or "auto" (from microversion 2.37 on).')


def _read_place(call: Call, keys: ServerKeys) -> tuple[str | None, str | None]:
    """Availability zone and host. "zone:host" and host are for admins."""
    zone, _, host = (keys.availability_zone or "").partition(":")
    named = [name for name in (host, keys.host, keys.hypervisor_hostname) if isinstance(name, str) and name]
    if named and not call.caller.is_admin:
        raise Forbidden("Policy does not allow a host to be chosen with the roles of this token.")
    if len(set(named)) > 1:
        raise Invalid("Invalid input for server: availability_zone, host and hypervisor_hostname name different hosts.")
    return zone or None, named[0] if named else None


def _read_counts(keys: ServerKeys) -> tuple[int, int]:
    count_min = 1 if keys.min_count is UNSET else int(keys.min_count)
    count_max = count_min if keys.max_count is UNSET else int(keys.max_count)
    if not 1 <= count_min <= count_max <= COUNT_MAX:
        raise Invalid(f"Invalid input for server: 1 <= min_count <= max_count <= {COUNT_MAX} has to hold.")
    return count_min, count_max


def read_update(call: Call) -> ServerChanges:
    """What a PUT asks for."""
    keys: UpdateKeys = call.body.server
    sent = sent_keys(keys)
    refuse_newer_keys(call, "server", sent, _SINCE)
    refuse_without_effect(sent)
    return ServerChanges(
        name=keys.name,
        description=keys.description,
        access_v4=UNSET if keys.access_v4 is UNSET else _read_address("accessIPv4", keys.access_v4, IPv4Address),
        access_v6=UNSET if keys.access_v6 is UNSET else _read_address("accessIPv6", keys.access_v6, IPv6Address),
        hostname=UNSET if keys.hostname is UNSET else read_hostname(call, keys.hostname),
        auto_disk=UNSET if keys.disk_config is UNSET else keys.disk_config == "AUTO",
        pinned_zone=keys.pinned_availability_zone,
    )


def read_hostname(call: Call, name: str) -> str:
    """The name as it may be at the microversion. Raises Invalid."""
    if call.version < v(94) and ("." in name or len(name) > HOSTNAME_CHARACTERS_MAX):
        raise Invalid(
            f"Invalid input for hostname: {name[:64]!r}; until microversion {v(93)} it is one word of "
            f"{HOSTNAME_CHARACTERS_MAX} characters at most."
        )
    return name


def _read_address(name: str, text: str | None, kind: type[IPv4Address | IPv6Address]) -> str:
    """An address as its shortest text; "" for none."""
    if not text:
        return ""
    try:
        return str(kind(text))
    except ValueError as error:
        raise Invalid(f"Invalid input for {name}: {text[:64]!r} is no such address.") from error


def read_boot_kind(call: Call) -> BootKind:
    """SOFT or HARD, in any case."""
    body: RebootBody = call.body
    word = body.reboot.kind.lower()
    if word not in ("soft", "hard"):
        raise Invalid(f"Invalid input for reboot.type: {word[:64]!r} has to be SOFT or HARD.")
    return BootKind(word)
