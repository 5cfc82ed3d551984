from __future__ import annotations

import pytest

from kevel.domain.catalog import BUILT_IN_IDS, built_in_endpoints, built_in_services
from kevel.domain.identity import IMPLIED_ROLES, expand_roles, fill_url


@pytest.mark.parametrize(
    ("held", "expanded"),
    [
        (set(), set()),
        ({"reader"}, {"reader"}),
        ({"member"}, {"member", "reader"}),
        ({"admin"}, {"admin", "manager", "member", "reader"}),
        ({"service", "other"}, {"service", "other"}),
    ],
)
def test_a_role_stands_for_those_it_implies(held: set[str], expanded: set[str]) -> None:
    assert expand_roles(held) == expanded


def test_implied_roles_are_closed_so_that_one_look_is_enough() -> None:
    for name in IMPLIED_ROLES:
        assert expand_roles(expand_roles([name])) == expand_roles([name])
        assert "service" not in expand_roles([name])


@pytest.mark.parametrize(
    ("url", "project_id", "filled"),
    [
        ("http://a/v3", None, "http://a/v3"),
        ("http://a/$(project_id)s", "p", "http://a/p"),
        ("http://a/%(tenant_id)s/%(project_id)s", "p", "http://a/p/p"),
        ("http://a/AUTH_$(tenant_id)s", None, None),
        ("http://a/%d%s", "p", "http://a/%d%s"),
    ],
)
def test_an_endpoint_that_needs_a_project_is_none_without_one(
    url: str, project_id: str | None, filled: str | None
) -> None:
    assert fill_url(url, project_id) == filled


def test_kevels_own_entries_have_the_same_ids_at_every_address() -> None:
    here, there = built_in_endpoints("http://a"), built_in_endpoints("https://b:1")
    assert [item.id for item in here] == [item.id for item in there]
    assert {item.id for item in here} | {item.id for item in built_in_services()} < BUILT_IN_IDS
    assert len(BUILT_IN_IDS) == len(here) + len(built_in_services()) + 1
