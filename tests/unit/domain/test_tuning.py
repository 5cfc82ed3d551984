"""What a front-end QoS specification means for a guest's disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kevel.domain.tuning import NO_LIMITS, RATE_MAX, RATES, TUNE_KEYS, DiskTune, find_spec_fault, tune_from_specs


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ({}, NO_LIMITS),
        ({"total_bytes_sec": "1000"}, DiskTune(total_bytes_sec=1000)),
        (
            {"read_iops_sec": "5", "write_iops_sec": "7", "size_iops_sec": "4096"},
            DiskTune(read_iops_sec=5, write_iops_sec=7, size_iops_sec=4096),
        ),
        (
            {"write_bytes_sec": "10", "write_bytes_sec_max": "20", "write_bytes_sec_max_length": "3"},
            DiskTune(write_bytes_sec=10, write_bytes_sec_max=20, write_bytes_sec_max_length=3),
        ),
        ({"total_iops_sec_per_gb": "30"}, DiskTune(total_iops_sec=300)),
        ({"total_iops_sec_per_gb": "30", "total_iops_sec_per_gb_min": "500"}, DiskTune(total_iops_sec=500)),
        ({"total_iops_sec_per_gb": "30", "total_iops_sec_max": "200"}, DiskTune(total_iops_sec=200)),
        ({"total_iops_sec": "1", "total_iops_sec_per_gb": "30"}, DiskTune(total_iops_sec=300)),
        # What a hypervisor would refuse, or what says nothing, is left out.
        ({"consumer": "front-end", "iops_bytes": "500", "read_iops_sec": "many"}, NO_LIMITS),
        (
            {"total_bytes_sec": "9", "read_bytes_sec": "3", "read_iops_sec": "4"},
            DiskTune(total_bytes_sec=9, read_iops_sec=4),
        ),
        ({"read_bytes_sec_max": "9", "size_iops_sec": "512"}, NO_LIMITS),
        ({"read_bytes_sec": "9", "read_bytes_sec_max": "8"}, DiskTune(read_bytes_sec=9)),
        ({"read_bytes_sec": "0", "write_bytes_sec": "-1"}, NO_LIMITS),
        ({"read_bytes_sec": "9999999999999999"}, DiskTune(read_bytes_sec=RATE_MAX)),
    ],
)
def test_a_specification_becomes_limits(specs: dict[str, str], expected: DiskTune) -> None:
    assert tune_from_specs(specs, size_gib=10) == expected


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ({"read_iops_sec": "many"}, "whole number"),
        ({"read_iops_sec": "1.5"}, "whole number"),
        ({"read_iops_sec": "-1"}, "whole number"),
        ({"read_iops_sec": "٣"}, "whole number"),
        ({"write_bytes_sec": str(RATE_MAX + 1)}, "whole number"),
        ({"write_iops_sec_per_gb_min": "x"}, "whole number"),
        ({"total_bytes_sec": "1", "write_bytes_sec": "1"}, "cannot both"),
        ({"total_iops_sec_per_gb": "1", "read_iops_sec": "1"}, "cannot both"),
        ({"read_iops_sec_max": "1"}, "needs read_iops_sec"),
        ({"read_iops_sec": "2", "read_iops_sec_max": "1"}, "below"),
        ({"read_iops_sec": "2", "read_iops_sec_max_length": "1"}, "needs read_iops_sec_max"),
    ],
)
def test_what_no_guest_could_be_held_to_is_named(specs: dict[str, str], words: str) -> None:
    fault = find_spec_fault(specs)
    assert fault is not None
    assert words in fault


@pytest.mark.parametrize(
    "specs",
    [
        {"any": "thing"},
        {"total_bytes_sec": "10", "read_iops_sec": "5"},
        {"total_bytes_sec": "0", "read_bytes_sec": "5"},
        {"total_iops_sec_per_gb": "30", "total_iops_sec_per_gb_min": "500", "total_iops_sec_max": "20"},
    ],
)
def test_what_can_be_held_to_has_no_fault(specs: dict[str, str]) -> None:
    assert find_spec_fault(specs) is None


@given(st.dictionaries(st.sampled_from(sorted(TUNE_KEYS)), st.integers(0, 10**16).map(str)), st.integers(1, 10**6))
def test_limits_never_contradict_each_other(specs: dict[str, str], size_gib: int) -> None:
    tune = tune_from_specs(specs, size_gib)
    for unit in ("bytes", "iops"):
        parts = (getattr(tune, f"read_{unit}_sec"), getattr(tune, f"write_{unit}_sec"))
        assert not (getattr(tune, f"total_{unit}_sec") and any(parts))
    for rate in RATES:
        base, burst = getattr(tune, rate), getattr(tune, f"{rate}_max")
        length_s = getattr(tune, f"{rate}_max_length")
        assert 0 <= base <= RATE_MAX
        assert burst == 0 or base <= burst <= RATE_MAX
        assert burst * length_s <= RATE_MAX
        assert burst or not length_s
