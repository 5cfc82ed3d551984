"""What projects may have: quota sets, classes, limits, and what they refuse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kevel.control.quotas import Quotas
from kevel.domain.quotas import QuotaDefaults
from kevel.store.quotas import configure_defaults, limits_in_force
from tests.integration.stand import PROJECTS
from tests.integration.volumes.conftest import World, message
from tests.integration.volumes.test_types import make_type

MEMBER = PROJECTS["member"]
SET = f"/os-quota-sets/{MEMBER}"
CLASS = "/os-quota-class-sets/default"
UNLIMITED = {
    "volumes": -1,
    "gigabytes": -1,
    "snapshots": -1,
    "per_volume_gigabytes": -1,
    "backups": -1,
    "backup_gigabytes": -1,
    "groups": -1,
    "volumes_standard": -1,
    "gigabytes_standard": -1,
    "snapshots_standard": -1,
}


async def limit(world: World, path: str = SET, **limits: Any) -> dict[str, Any]:
    """Set limits; what the answer says of all."""
    name = "quota_class_set" if "class" in path else "quota_set"
    answer = await world.call("PUT", path, {name: limits}, caller="admin")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()[name]
    return shown


async def used(world: World, name: str, project: str = MEMBER) -> tuple[int, int]:
    """What is in use, and what is reserved."""
    path = f"/os-quota-sets/{project}?usage=True"
    one = (await world.get(path, "quota_set", caller="admin"))[name]
    return one["in_use"], one["reserved"]


async def test_nothing_is_limited_until_somebody_says_so(world: World) -> None:
    assert await world.get(SET, "quota_set") == {"id": MEMBER, **UNLIMITED}
    assert await world.get(f"{SET}/defaults", "quota_set", caller="reader") == {"id": MEMBER, **UNLIMITED}
    assert await world.get(CLASS, "quota_class_set", caller="admin") == {"id": "default", **UNLIMITED}
    for _ in range(12):
        assert (await world.ask()).status_code == 202


async def test_limits_are_set_shown_and_taken_away_again(world: World) -> None:
    changed = await limit(world, volumes=3, gigabytes="7", id=MEMBER, tenant_id=MEMBER)
    assert changed == UNLIMITED | {"volumes": 3, "gigabytes": 7}
    assert await limit(world, gigabytes=-1) == UNLIMITED | {"volumes": 3}
    assert (await world.get(SET, "quota_set"))["volumes"] == 3
    assert (await world.get(f"{SET}/defaults", "quota_set"))["volumes"] == -1
    assert (await world.get(f"/os-quota-sets/{PROJECTS['other']}", "quota_set", caller="other"))["volumes"] == -1
    answer = await world.call("DELETE", SET, caller="admin")
    assert (answer.status_code, answer.content) == (200, b"")
    assert await world.get(SET, "quota_set") == {"id": MEMBER, **UNLIMITED}


async def test_the_projects_word_wins_over_the_classs_and_that_over_the_configurations(world: World) -> None:
    defaults = QuotaDefaults(volumes=5, groups=6, backups=7)
    await Quotas(world.runtime, defaults).bootstrap()
    assert await limit(world, CLASS, volumes=8, groups=9) == UNLIMITED | {"volumes": 8, "groups": 9, "backups": 7}
    await limit(world, volumes=10)
    shown = await world.get(SET, "quota_set")
    assert (shown["volumes"], shown["groups"], shown["backups"]) == (10, 9, 7)
    shown = await world.get(f"{SET}/defaults", "quota_set")
    assert (shown["volumes"], shown["groups"], shown["backups"]) == (8, 9, 7)
    await world.runtime.store.write(configure_defaults, QuotaDefaults())
    assert (await world.get(SET, "quota_set"))["backups"] == -1


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"quota_set": {}},
        {"quota_set": {"volumes": -2}},
        {"quota_set": {"volumes": 2**31}},
        {"quota_set": {"volumes": "many"}},
        {"quota_set": {"volumes": "1.5"}},
        {"quota_set": {"volumes": None}},
        {"quota_set": {"volumes": True}},
        {"quota_set": {"pigs": 1}},
        {"quota_set": {"volumes_none-such": 1}},
        {"quota_set": {"backups_standard": 1}},
        {"quota_set": {"volumes": 1, "pigs": 1}},
        {"quota_set": {"volumes": 1}, "more": 1},
    ],
)
async def test_a_bad_limit_is_refused_and_changes_nothing(world: World, body: Any) -> None:
    message(await world.call("PUT", SET, body, caller="admin"), 400)
    class_body = body and {key.replace("quota_set", "quota_class_set"): value for key, value in body.items()}
    message(await world.call("PUT", CLASS, class_body, caller="admin"), 400)
    assert await world.get(SET, "quota_set") == {"id": MEMBER, **UNLIMITED}


async def test_a_limit_below_what_is_there_is_refused(world: World) -> None:
    await world.make(size=3)
    answer = await world.call("PUT", SET, {"quota_set": {"gigabytes": 2}}, caller="admin")
    assert "has 3 already" in message(answer, 400)
    await limit(world, gigabytes=3, per_volume_gigabytes=1)


async def test_only_admins_change_limits_and_users_see_their_own(world: World) -> None:
    for path in (SET, f"{SET}?usage=True", f"{SET}/defaults"):
        message(await world.call("GET", path, caller="other"), 403)
        assert (await world.call("GET", path, caller="admin")).status_code == 200
    for method, path, body in (
        ("PUT", SET, {"quota_set": {"volumes": 1}}),
        ("DELETE", SET, None),
        ("GET", CLASS, None),
        ("PUT", CLASS, {"quota_class_set": {"volumes": 1}}),
    ):
        message(await world.call(method, path, body), 403)
    long = f"/os-quota-sets/{'p' * 256}"
    for method, path in (("GET", long), ("GET", f"{long}/defaults"), ("PUT", long), ("DELETE", long)):
        message(await world.call(method, path, {"quota_set": {"volumes": 1}}, caller="admin"), 400)
    message(await world.call("GET", f"{SET}?usage=perhaps"), 400)


async def test_there_is_one_class(world: World) -> None:
    for method in ("GET", "PUT"):
        body = {"quota_class_set": {"volumes": 1}}
        assert "only default" in message(
            await world.call(method, "/os-quota-class-sets/gold", body, caller="admin"), 404
        )


async def test_a_volume_too_many_is_refused_and_leaves_nothing(world: World) -> None:
    await limit(world, volumes=1)
    volume_id = await world.make()
    assert "volumes: 1 of 1 are taken" in message(await world.ask(), 413)
    assert [one["id"] for one in await world.get("/volumes", "volumes")] == [volume_id]
    assert (await world.ask(caller="other")).status_code == 202
    await world.call("DELETE", f"/volumes/{volume_id}")
    message(await world.ask(), 413)
    await world.settle()
    assert (await world.ask()).status_code == 202


async def test_gigabytes_bound_new_volumes_and_growing_ones(world: World) -> None:
    await limit(world, gigabytes=5)
    volume_id = await world.make(size=3)
    assert "3 of 5 GiB are taken, and 3 more" in message(await world.ask(size=3), 413)
    message(await world.act(volume_id, "os-extend", {"new_size": 6}), 413)
    assert (await world.act(volume_id, "os-extend", {"new_size": 5})).status_code == 202
    assert await used(world, "gigabytes") == (3, 2)
    message(await world.ask(size=1), 413)
    await world.settle()
    assert await used(world, "gigabytes") == (5, 0)


async def test_one_volume_has_a_limit_of_its_own(world: World) -> None:
    await limit(world, CLASS, per_volume_gigabytes=2)
    message(await world.ask(size=3), 413)
    volume_id = await world.make(size=2)
    answer = await world.act(volume_id, "os-extend", {"new_size": 3})
    assert "a volume may have 2 GiB" in message(answer, 413)
    assert await used(world, "per_volume_gigabytes") == (0, 0)


async def test_a_type_has_limits_of_its_own_which_follow_its_name_and_end_with_it(world: World) -> None:
    type_id = await make_type(world, "fast")
    await limit(world, volumes_fast=1)
    standard = (await world.get("/types/default", "volume_type"))["id"]
    await limit(world, CLASS, gigabytes_standard=2)
    volume_id = await world.make(volume_type="fast")
    assert "volumes_fast: 1 of 1" in message(await world.ask(volume_type="fast"), 413)
    plain = await world.make(size=2)
    assert "gigabytes_standard: 2 of 2 GiB" in message(await world.ask(), 413)
    message(await world.act(plain, "os-retype", {"new_type": "fast"}), 413)
    message(await world.act(volume_id, "os-retype", {"new_type": "standard"}), 413)
    await world.call("PUT", f"/types/{type_id}", {"volume_type": {"name": "swift"}}, caller="admin")
    shown = await world.get(f"{SET}?usage=1", "quota_set")
    assert shown["volumes_swift"] == {"limit": 1, "in_use": 1, "reserved": 0}
    assert "volumes_fast" not in shown
    await world.call("DELETE", f"/volumes/{volume_id}")
    await world.settle()
    assert (await world.call("DELETE", f"/types/{type_id}", caller="admin")).status_code == 202
    assert "volumes_swift" not in await world.get(SET, "quota_set")
    assert await world.runtime.store.read(limits_in_force, MEMBER) == {("gigabytes", standard): 2}


async def test_a_private_types_name_is_not_told_to_those_who_cannot_see_it(world: World) -> None:
    await make_type(world, "secret", **{"os-volume-type-access:is_public": False})
    assert "volumes_secret" not in await world.get(SET, "quota_set")
    assert "volumes_secret" in await world.get(SET, "quota_set", caller="admin")


async def test_many_requests_at_once_take_no_more_than_there_is(world: World) -> None:
    await limit(world, volumes=3)
    answers = await asyncio.gather(*(world.ask() for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [413] * 7
    assert await used(world, "volumes") == (3, 0)


async def test_limits_show_what_the_project_may_have_and_has(world: World) -> None:
    await limit(world, volumes=4, gigabytes=9, snapshots=2, backups=3, backup_gigabytes=5)
    await world.make(size=3)
    limits = await world.get("/limits", "limits", caller="reader")
    assert limits == {
        "rate": [],
        "absolute": {
            "maxTotalVolumes": 4,
            "maxTotalVolumeGigabytes": 9,
            "maxTotalSnapshots": 2,
            "maxTotalBackups": 3,
            "maxTotalBackupGigabytes": 5,
            "totalVolumesUsed": 1,
            "totalGigabytesUsed": 3,
            "totalSnapshotsUsed": 0,
            "totalBackupsUsed": 0,
            "totalBackupGigabytesUsed": 0,
        },
    }


async def test_an_admin_sees_another_projects_limits_since_3_39(world: World) -> None:
    await limit(world, volumes=4)
    for query in (f"project_id={MEMBER}", f"tenant_id={MEMBER}"):
        for caller, version, shown in (("admin", "3.39", 4), ("admin", "3.38", -1), ("other", "3.71", -1)):
            limits = await world.get(f"/limits?{query}", "limits", caller=caller, version=version)
            assert limits["absolute"]["maxTotalVolumes"] == shown
