"""Flavors: the sizes that servers come in."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from kevel.domain.errors import Invalid

#: Flavors in one Kevel.
FLAVORS_MAX: Final = 1000
EXTRA_SPECS_MAX: Final = 128
#: Projects that may use one private flavor.
ACCESS_MAX: Final = 1000
NUMBER_MAX: Final = 2**31 - 1

_ID: Final = re.compile(r"[a-zA-Z0-9._-]([a-zA-Z0-9. _-]{0,253}[a-zA-Z0-9._-])?")
_SPEC_NAME: Final = re.compile(r"[a-zA-Z0-9-_:. ]{1,255}")


class Flavor(msgspec.Struct, frozen=True, kw_only=True):
    """A flavor's row."""

    id: str
    name: str
    vcpus: int
    ram_mib: int
    #: Size of the root disk; 0 = as large as the image.
    disk_gib: int
    ephemeral_gib: int
    swap_mib: int
    #: False: only admins, and projects on its access list, see it and make servers of it.
    is_public: bool
    description: str | None
    extra_specs: dict[str, str]
    #: Kept and shown; it says something only to networks that Kevel does not have.
    rxtx_factor: float = 1.0


#: What a new Kevel starts with. `tiny` is enough for the tiny guest.
FIRST_FLAVORS: Final = tuple(
    Flavor(
        id=flavor_id,
        name=name,
        vcpus=vcpus,
        ram_mib=ram_mib,
        disk_gib=disk_gib,
        ephemeral_gib=0,
        swap_mib=0,
        is_public=True,
        description=None,
        extra_specs={},
    )
    for flavor_id, name, vcpus, ram_mib, disk_gib in (
        ("tiny", "tiny", 1, 96, 0),
        ("1", "m1.tiny", 1, 512, 1),
        ("2", "m1.small", 1, 2048, 20),
    )
)


def check_flavor(flavor: Flavor) -> None:
    """Raise Invalid when there can be no such flavor."""
    if not _ID.fullmatch(flavor.id):
        raise Invalid(
            "The id of a flavor has 1 to 255 letters, digits, spaces, dots, dashes and underscores,"
            " and no space at either end."
        )
    if not 0 < len(flavor.name) <= 255 or flavor.name.strip() != flavor.name or not flavor.name.isprintable():
        raise Invalid("The name of a flavor has 1 to 255 printable characters, and no space at either end.")
    for name, value, least in (
        ("ram", flavor.ram_mib, 1),
        ("vcpus", flavor.vcpus, 1),
        ("disk", flavor.disk_gib, 0),
        ("OS-FLV-EXT-DATA:ephemeral", flavor.ephemeral_gib, 0),
        ("swap", flavor.swap_mib, 0),
    ):
        if not least <= value <= NUMBER_MAX:
            raise Invalid(f"{name} has to be a whole number from {least} to {NUMBER_MAX}, not {str(value)[:32]}.")
    if not 0 < flavor.rxtx_factor < float("inf"):
        raise Invalid("rxtx_factor has to be a number above 0.")
    check_description(flavor.description)


def check_usable(flavor: Flavor) -> None:
    """Raise Invalid when there can be such a flavor, and no server of it."""
    if flavor.ephemeral_gib or flavor.swap_mib:
        raise Invalid(
            f"Flavor {flavor.id} has an ephemeral or a swap disk, which Kevel gives to no server: choose one without."
        )


def check_description(description: str | None) -> None:
    """Raise Invalid when a flavor cannot be described so."""
    if description is not None and len(description) > 65535:
        raise Invalid("The description of a flavor has at most 65535 characters.")


def check_extra_specs(specs: dict[str, str]) -> None:
    """Raise Invalid when a flavor cannot have these extra specs."""
    if len(specs) > EXTRA_SPECS_MAX:
        raise Invalid(f"A flavor has at most {EXTRA_SPECS_MAX} extra specs.")
    for name, value in specs.items():
        if not _SPEC_NAME.fullmatch(name):
            raise Invalid("The name of an extra spec has 1 to 255 letters, digits, spaces and any of - _ : .")
        if len(value) > 255:
            raise Invalid(f"The extra spec {name!r} has to be a text of at most 255 characters.")
