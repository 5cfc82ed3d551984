"""What the extra specs of a volume type mean for its volumes. They are texts of the operator's; pure rules."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from kevel.domain.errors import Invalid

#: Extra specs of one type.
SPECS_MAX: Final = 128
#: The extra spec that makes a type's volumes multiattach, and its value.
MULTIATTACH: Final = "multiattach"
MULTIATTACH_VALUE: Final = "<is> True"
#: The zones in which a type's volumes are made, with commas between them.
ZONES: Final = "RESKEY:availability_zones"
#: Bounds of a volume's size, GiB.
SIZE_MIN: Final = "provisioning:min_vol_size"
SIZE_MAX: Final = "provisioning:max_vol_size"
#: Whether a host may cache the volume; says nothing of where it is made.
CACHEABLE: Final = "cacheable"
#: Values that one `<or>` may name.
ALTERNATIVES_MAX: Final = 64

_FLAGS: Final = frozenset({MULTIATTACH, CACHEABLE})
_FLAG_VALUES: Final = frozenset({"<is> true", "<is> false"})
_WHOLE: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_TRUE: Final = frozenset({"true", "1", "t", "y", "yes", "on"})

_NUMBERS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
}
_TEXTS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "s==": operator.eq,
    "s!=": operator.ne,
    "s<": operator.lt,
    "s<=": operator.le,
    "s>": operator.gt,
    "s>=": operator.ge,
    "<in>": lambda text, part: part in text,
}


def check_specs(specs: Mapping[str, str]) -> None:
    """Raise Invalid where a spec that means something to Kevel does not say it clearly."""
    if len(specs) > SPECS_MAX:
        raise Invalid(f"A volume type can have {SPECS_MAX} extra specs; these are {len(specs)}.")
    for key in sorted(_FLAGS & specs.keys()):
        if specs[key].lower() not in _FLAG_VALUES:
            raise Invalid(f"The extra spec {key} has to be '<is> True' or '<is> False'.")
    if all(specs.get(key, "").lower() == "<is> true" for key in _FLAGS):
        raise Invalid("A volume type cannot be both cacheable and multiattach: what one host caches, others change.")
    for key in (SIZE_MIN, SIZE_MAX):
        if key in specs and not _WHOLE.fullmatch(specs[key]):
            raise Invalid(f"The extra spec {key} has to be a whole number of GiB, not {specs[key][:40]!r}.")
    if int(specs.get(SIZE_MIN, 0)) > int(specs.get(SIZE_MAX, 2**31)):
        raise Invalid(f"The extra spec {SIZE_MIN} cannot be greater than {SIZE_MAX}.")
    if ZONES in specs and not _zones(specs):
        raise Invalid(f"The extra spec {ZONES} has to name a zone, or several with commas between them.")


def check_size(type_name: str, specs: Mapping[str, str], size_gib: int) -> None:
    """Raise Invalid if volumes of the type are not made in that size."""
    least, most = specs.get(SIZE_MIN), specs.get(SIZE_MAX)
    if least is not None and size_gib < int(least):
        raise Invalid(
            f"Invalid input received: volumes of the type {type_name} have {least} GiB at least; {size_gib} GiB were "
            "asked for."
        )
    if most is not None and size_gib > int(most):
        raise Invalid(
            f"Invalid input received: volumes of the type {type_name} have {most} GiB at most; {size_gib} GiB were "
            "asked for."
        )


def check_zone(type_name: str, specs: Mapping[str, str], zone: str) -> None:
    """Raise Invalid if volumes of the type are not made in that zone."""
    if ZONES in specs and zone not in _zones(specs):
        raise Invalid(
            f"Invalid input received: volumes of the type {type_name} are made in {', '.join(_zones(specs))[:200]}, "
            f"not in the availability zone {zone}."
        )


def _zones(specs: Mapping[str, str]) -> list[str]:
    return [zone.strip() for zone in specs[ZONES].split(",") if zone.strip()]


def unmet_spec(specs: Mapping[str, str], capabilities: Mapping[str, Any]) -> str | None:
    """The first spec that the pool does not meet; None: it may take the volume.

    As in Cinder, keys with another scope than `capabilities:` are between the operator and a back end, and every other
    key has to name a capability of the pool.
    """
    for key, wanted in sorted(specs.items()):
        scope, colon, rest = key.partition(":")
        if key in _FLAGS and wanted.lower() != MULTIATTACH_VALUE.lower():
            continue
        if key == CACHEABLE or (colon and scope != "capabilities"):
            continue
        name = rest if colon else key
        if name not in capabilities or not meets(capabilities[name], wanted):
            return key
    return None


def meets(value: object, wanted: str) -> bool:
    """Is that what is wanted? A plain text is compared whole; an operator may stand before it: `>= 10`, `<is> True`."""
    words = wanted.split()
    if not words:
        return str(value) == wanted
    word, rest = words[0], words[1:]
    if word == "<or>":
        return str(value) in [one for one in rest[: 2 * ALTERNATIVES_MAX] if one != "<or>"]
    if word == "<is>":
        return bool(rest) and (str(value).lower() in _TRUE) is (rest[0].lower() in _TRUE)
    if word in _TEXTS:
        return bool(rest) and _TEXTS[word](str(value), rest[0])
    if word in _NUMBERS:
        try:
            return bool(rest) and _NUMBERS[word](float(str(value)), float(rest[0]))
        except ValueError:
            return False
    return str(value) == wanted
