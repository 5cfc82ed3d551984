"""Whatever a client sends, the API answers with an error of the client's, and nothing half-made is left."""

from __future__ import annotations

from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.volumes.conftest import World

NUMBERS = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=300)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
FIELDS = st.sampled_from(("size", "name", "description", "volume_type", "metadata", "availability_zone", "multiattach"))
BODIES = VALUES | st.fixed_dictionaries({"volume": VALUES | st.dictionaries(FIELDS, VALUES, max_size=4)})
PARAMETERS = (
    *("limit", "offset", "marker", "sort", "sort_key", "sort_dir", "with_count", "all_tenants"),
    *("id", "name", "name~", "status", "metadata", "bootable", "created_at", "size", "consumes_quota"),
)
QUERIES = st.dictionaries(st.sampled_from(PARAMETERS), st.text(st.characters(codec="utf-8"), max_size=40), max_size=4)
ACTIONS = st.fixed_dictionaries(
    {},
    optional={
        "os-extend": VALUES | st.fixed_dictionaries({"new_size": VALUES}),
        "os-reset_status": VALUES | st.fixed_dictionaries({"status": VALUES}),
        "os-retype": VALUES | st.fixed_dictionaries({"new_type": VALUES}),
    },
)

many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def check(answer: httpx.Response, *good: int) -> Any:
    assert answer.status_code in (*good, 400, 404, 413), answer.text
    if answer.status_code not in good:
        ((_, inner),) = answer.json().items()
        assert inner["message"]
    return answer


@many
@given(body=BODIES)
async def test_any_body_for_a_new_volume(world: World, body: object) -> None:
    before = len(await world.get("/volumes", "volumes"))
    answer = check(await world.call("POST", "/volumes", body), 202)
    made = 1 if answer.status_code == 202 else 0
    assert len(await world.get("/volumes", "volumes")) == before + made


@many
@given(query=QUERIES)
async def test_any_query_for_a_list(world: World, query: dict[str, str]) -> None:
    check(await world.call("GET", "/volumes/detail", params=query), 200)


@many
@given(body=ACTIONS)
async def test_any_action(world: World, body: object) -> None:
    found = await world.get("/volumes", "volumes")
    volume_id = found[0]["id"] if found else await world.make()
    check(await world.call("POST", f"/volumes/{volume_id}/action", body, caller="admin"), 202)
    await world.settle()
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["size"] >= 1
