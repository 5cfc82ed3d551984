"""Limits on what a guest may ask of one disk: from the words of a front-end QoS specification to numbers.

The specification is a plain dictionary of strings, and an administrator may have written anything into it before it
was checked. So there are two functions: one finds what is wrong with it, for whoever writes it; the other makes the
best of it, since a wrong word must not keep a volume from its server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

#: QEMU's own bound on every rate.
RATE_MAX: Final = 10**15
#: Seconds that a burst may last.
BURST_S_MAX: Final = 86_400

#: The rates that have a base, a burst and a burst's length.
RATES: Final = tuple(f"{kind}_{unit}_sec" for unit in ("bytes", "iops") for kind in ("total", "read", "write"))
_WHOLE: Final = re.compile(r"\d{1,16}", re.ASCII)


class DiskTune(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of one disk; 0 is no limit. The names are libvirt's elements of `<iotune>`.

    Per second, bytes or requests. A burst (`_max`) may last `_max_length` seconds. `size_iops_sec`: a request of that
    many bytes counts as one, a larger one as several.
    """

    total_bytes_sec: int = 0
    read_bytes_sec: int = 0
    write_bytes_sec: int = 0
    total_iops_sec: int = 0
    read_iops_sec: int = 0
    write_iops_sec: int = 0
    total_bytes_sec_max: int = 0
    read_bytes_sec_max: int = 0
    write_bytes_sec_max: int = 0
    total_iops_sec_max: int = 0
    read_iops_sec_max: int = 0
    write_iops_sec_max: int = 0
    size_iops_sec: int = 0
    total_bytes_sec_max_length: int = 0
    read_bytes_sec_max_length: int = 0
    write_bytes_sec_max_length: int = 0
    total_iops_sec_max_length: int = 0
    read_iops_sec_max_length: int = 0
    write_iops_sec_max_length: int = 0


NO_LIMITS: Final = DiskTune()
_PER_GB: Final = frozenset(f"{rate}_per_gb{end}" for rate in RATES for end in ("", "_min"))
#: Every key of a specification that means something to a guest's disk.
TUNE_KEYS: Final = frozenset(DiskTune.__struct_fields__) | _PER_GB


def tune_from_specs(specs: Mapping[str, str], size_gib: int) -> DiskTune:
    """The limits of a disk of that size. Unknown keys mean nothing here, and neither do values that are no numbers.

    A rate per GB is multiplied by the size; it is at least the rate's `_per_gb_min`, and its `_max`, where there is
    one, bounds it instead of saying how high a burst goes. What a hypervisor would refuse is left out: a burst without
    its rate or below it, and read and write limits beside a total.
    """
    given = {key: _clamp(key, value) for key, value in specs.items() if key in TUNE_KEYS and _is_whole(value)}
    found: dict[str, int] = {}
    for unit in ("bytes", "iops"):
        total = f"total_{unit}_sec"
        kinds = (total,) if _limits(given, total) else (f"read_{unit}_sec", f"write_{unit}_sec")
        for rate in kinds:
            found |= _tune_rate(given, rate, size_gib)
    if any(found.get(f"{kind}_iops_sec") for kind in ("total", "read", "write")):
        found["size_iops_sec"] = given.get("size_iops_sec", 0)
    return DiskTune(**found)


def _tune_rate(given: Mapping[str, int], rate: str, size_gib: int) -> dict[str, int]:
    base, burst = given.get(rate, 0), given.get(f"{rate}_max", 0)
    if f"{rate}_per_gb" in given:
        base = max(given[f"{rate}_per_gb"] * size_gib, given.get(f"{rate}_per_gb_min", 0))
        base, burst = min(base, burst or RATE_MAX), 0
    if base == 0:
        return {}
    if burst < base:
        return {rate: base}
    length_s = min(given.get(f"{rate}_max_length", 0), RATE_MAX // burst)
    return {rate: base, f"{rate}_max": burst, f"{rate}_max_length": length_s}


def find_spec_fault(specs: Mapping[str, str]) -> str | None:
    """What is wrong with a specification that is to limit guests' disks, as a sentence; None: nothing."""
    known = {key: value for key, value in specs.items() if key in TUNE_KEYS}
    for key, value in known.items():
        if not _is_whole(value) or _clamp(key, value) != int(value):
            most = BURST_S_MAX if key.endswith("_max_length") else RATE_MAX
            return f"The value of {key} must be a whole number from 0 to {most}."
    numbers = {key: int(value) for key, value in known.items()}
    for unit in ("bytes", "iops"):
        total, parts = f"total_{unit}_sec", (f"read_{unit}_sec", f"write_{unit}_sec")
        mixed = [rate for rate in parts if _limits(numbers, rate)]
        if _limits(numbers, total) and mixed:
            return f"{total} and {mixed[0]} cannot both be limited: name the total, or reading and writing."
    for rate in RATES:
        burst, base = numbers.get(f"{rate}_max", 0), numbers.get(rate, 0)
        if burst and not _limits(numbers, rate):
            return f"{rate}_max needs {rate} beside it."
        if burst and burst < base:
            return f"{rate}_max must not be below {rate}."
        if numbers.get(f"{rate}_max_length") and not burst:
            return f"{rate}_max_length needs {rate}_max beside it."
    return None


def _limits(numbers: Mapping[str, int], rate: str) -> bool:
    return bool(numbers.get(rate) or numbers.get(f"{rate}_per_gb"))


def _is_whole(value: str) -> bool:
    return _WHOLE.fullmatch(value) is not None


def _clamp(key: str, value: str) -> int:
    return min(int(value), BURST_S_MAX if key.endswith("_max_length") else RATE_MAX)
