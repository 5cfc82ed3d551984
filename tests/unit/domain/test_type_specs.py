"""How the extra specs of a type are held against what a pool can do."""

from __future__ import annotations

import pytest

from kevel.domain.type_specs import meets, unmet_spec


@pytest.mark.parametrize(
    ("value", "wanted", "is_met"),
    [
        ("file", "file", True),
        ("file", "files", False),
        ("two words", "two words", True),
        ("", "", True),
        (True, "<is> True", True),
        (True, "<is> no", False),
        (False, "<is> False", True),
        ("file", "<or> nfs <or> file", True),
        ("rbd", "<or> nfs <or> file", False),
        ("abc", "<in> b", True),
        ("abc", "<in> d", False),
        (10, ">= 10", True),
        (10.5, "<= 10", False),
        (10, "= 9", True),
        (10, "== 10.0", True),
        (10, "!= 10", False),
        ("b", "s> a", True),
        ("b", "s== a", False),
        ("b", "s!= a", True),
        ("text", ">= 1", False),
        (10, ">= many", False),
        (10, ">=", False),
        (True, "<is>", False),
        ("x", "<or>", False),
    ],
)
def test_a_capability_is_compared_as_the_operator_says(value: object, wanted: str, is_met: bool) -> None:
    assert meets(value, wanted) is is_met


@pytest.mark.parametrize(
    ("specs", "unmet"),
    [
        ({}, None),
        ({"protocol": "file"}, None),
        ({"capabilities:protocol": "file"}, None),
        ({"capabilities:protocol": "rbd"}, "capabilities:protocol"),
        ({"colour": "red"}, "colour"),
        ({"vendor:colour": "red", "RESKEY:availability_zones": "far", "provisioning:min_vol_size": "9"}, None),
        ({"multiattach": "<is> True"}, "multiattach"),
        ({"multiattach": "<is> False"}, None),
        ({"cacheable": "<is> True"}, None),
    ],
)
def test_the_first_spec_that_is_not_met_is_named(specs: dict[str, str], unmet: str | None) -> None:
    assert unmet_spec(specs, {"protocol": "file", "multiattach": False}) == unmet
