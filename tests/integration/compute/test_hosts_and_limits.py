from __future__ import annotations

import httpx
import pytest

from kevel.control.hosts.hosts import Hosts
from kevel.control.secrets import Sealer
from kevel.domain.limits import Limits
from kevel.domain.placement import HOST_SILENT_S
from kevel.store.hosts import touch_host
from tests.integration.compute.conftest import FACTS, HOST, Stand


async def show(stand: Stand, path: str, *, caller: str = "admin", version: str | None = None) -> httpx.Response:
    answer = await stand.call("GET", path, caller=caller, version=version)
    assert answer.status_code == 200, answer.text
    return answer


async def test_discovery_needs_no_token_and_names_the_microversions(stand: Stand) -> None:
    async with httpx.AsyncClient(transport=stand.clients["member"]._transport, base_url="http://kevel.test") as nobody:
        for path, key in (("/compute", "versions"), ("/compute/", "versions"), ("/compute/v2.1", "version")):
            answer = await nobody.get(path)
            assert answer.status_code == 200
            shown = answer.json()[key]
            version = shown[0] if key == "versions" else shown
            assert (version["id"], version["version"], version["min_version"]) == ("v2.1", "2.104", "2.1")
            assert version["links"][0]["href"] == "http://kevel.test/compute/v2.1/"
        assert (await nobody.get("/compute/v2.1/servers")).status_code == 401


@pytest.mark.parametrize(
    ("wanted", "status"), [("2.105", 406), ("2.0", 406), ("1.9", 406), ("x", 400), ("2", 400), ("latest", 200)]
)
async def test_microversions_that_are_not_there_are_refused(stand: Stand, wanted: str, status: int) -> None:
    assert (await stand.call("GET", "/servers", version=wanted)).status_code == status


async def test_the_projects_id_may_stand_in_the_address(stand: Stand) -> None:
    assert (await stand.call("GET", f"/{'11' * 16}/servers")).json() == {"servers": []}
    assert (await stand.call("GET", f"/{'22' * 16}/servers")).status_code == 400


async def test_availability_zones_show_their_hosts_to_admins_only(stand: Stand) -> None:
    zones = (await show(stand, "/os-availability-zone", caller="member")).json()["availabilityZoneInfo"]
    assert zones == [{"zoneName": "nova", "zoneState": {"available": True}, "hosts": None}]
    assert (await stand.call("GET", "/os-availability-zone/detail")).status_code == 403
    (zone,) = (await show(stand, "/os-availability-zone/detail")).json()["availabilityZoneInfo"]
    service = zone["hosts"][HOST]["nova-compute"]
    assert (service["available"], service["active"]) == (True, True)


async def test_services_tell_which_hosts_are_heard_of(stand: Stand) -> None:
    assert (await stand.call("GET", "/os-services")).status_code == 403
    (service,) = (await show(stand, "/os-services", version="2.69")).json()["services"]
    assert (service["host"], service["state"], service["status"]) == (HOST, "up", "enabled")
    assert len(service["id"]) == 36
    (service,) = (await show(stand, "/os-services", version="2.1")).json()["services"]
    assert service["id"] == 1
    assert "forced_down" not in service
    assert (await show(stand, "/os-services?binary=nova-scheduler")).json() == {"services": []}
    assert (await show(stand, f"/os-services?host={HOST}")).json()["services"]
    await stand.runtime.store.write(touch_host, HOST, stand.now - (HOST_SILENT_S + 1) * 1_000_000)
    (service,) = (await show(stand, "/os-services")).json()["services"]
    assert service["state"] == "down"
    assert (await stand.ask_server()).status_code == 409


async def test_a_host_that_always_has_news_to_fetch_is_heard_of(stand: Stand) -> None:
    await stand.runtime.store.write(touch_host, HOST, stand.now - (HOST_SILENT_S + 1) * 1_000_000)
    found = await Hosts(stand.runtime, {}, Sealer(bytes(64)), Limits()).changes(HOST, 0)
    assert found.version > 0
    (service,) = (await show(stand, "/os-services")).json()["services"]
    assert service["state"] == "up"


async def test_hypervisors_show_their_use_until_2_87(stand: Stand) -> None:
    server_id = await stand.make_server()
    assert (await stand.call("GET", "/os-hypervisors")).status_code == 403
    (short,) = (await show(stand, "/os-hypervisors")).json()["hypervisors"]
    assert short == {"id": 1, "hypervisor_hostname": FACTS["hostname"], "state": "up", "status": "enabled"}
    (old,) = (await show(stand, "/os-hypervisors/detail", version="2.87")).json()["hypervisors"]
    assert (old["vcpus_used"], old["memory_mb_used"], old["running_vms"]) == (1, 96, 1)
    assert "uptime" not in old
    (new,) = (await show(stand, "/os-hypervisors/detail?with_servers=true", version="2.88")).json()["hypervisors"]
    assert "vcpus" not in new
    assert new["servers"] == [{"uuid": server_id, "name": "web"}]
    one = (await show(stand, f"/os-hypervisors/{new['id']}", version="2.88")).json()["hypervisor"]
    assert one["service"]["host"] == HOST
    assert (await show(stand, "/os-hypervisors/1", version="2.52")).json()["hypervisor"]["id"] == 1
    assert (await show(stand, "/os-aggregates")).json() == {"aggregates": []}
    for missing in ("2", "x", new["id"]):
        assert (await stand.call("GET", f"/os-hypervisors/{missing}", caller="admin")).status_code == 404
    pattern = "/os-hypervisors?hypervisor_hostname_pattern="
    assert (await show(stand, f"{pattern}host", version="2.53")).json()["hypervisors"]
    assert (await stand.call("GET", f"{pattern}zzz", caller="admin", version="2.53")).status_code == 404


async def test_limits_tell_what_the_project_uses(stand: Stand) -> None:
    await stand.make_server(flavorRef="1")
    absolute = (await show(stand, "/limits", caller="member", version="2.57")).json()["limits"]["absolute"]
    assert (absolute["totalInstancesUsed"], absolute["totalCoresUsed"], absolute["totalRAMUsed"]) == (1, 1, 512)
    assert (absolute["maxTotalInstances"], absolute["maxServerMeta"]) == (-1, 128)
    assert "maxPersonality" not in absolute
    assert "maxSecurityGroups" in (await show(stand, "/limits", caller="member")).json()["limits"]["absolute"]
    other = (await show(stand, "/limits", caller="other")).json()["limits"]["absolute"]
    assert other["totalInstancesUsed"] == 0
    assert (await stand.call("GET", f"/limits?tenant_id={'22' * 16}")).status_code == 403
    assert (await show(stand, f"/limits?tenant_id={'11' * 16}")).json()["limits"]["absolute"]["totalCoresUsed"] == 1
    assert (await stand.call("GET", "/limits?stray=1", version="2.75")).status_code == 400


async def test_a_disabled_host_gets_no_new_servers(stand: Stand) -> None:
    (service,) = (await show(stand, "/os-services", version="2.53")).json()["services"]
    path = f"/os-services/{service['id']}"
    body: dict[str, object] = {"status": "disabled", "disabled_reason": "new disks"}
    answer = await stand.call("PUT", path, body, caller="admin", version="2.53")
    assert answer.status_code == 200, answer.text
    changed = answer.json()["service"]
    assert (changed["id"], changed["status"], changed["disabled_reason"]) == (service["id"], "disabled", "new disks")
    refused = await stand.ask_server()
    assert (refused.status_code, "1 disabled or not heard of" in refused.text) == (409, True)
    (shown,) = (await show(stand, "/os-hypervisors/detail", version="2.53")).json()["hypervisors"]
    assert (shown["status"], shown["service"]["disabled_reason"]) == ("disabled", "new disks")
    answer = await stand.call("PUT", path, {"status": "enabled"}, caller="admin", version="2.53")
    assert answer.json()["service"]["disabled_reason"] is None
    assert (await stand.ask_server()).status_code == 202


async def test_services_were_changed_by_name_until_2_52(stand: Stand) -> None:
    named = {"host": HOST, "binary": "nova-compute"}
    for path, more, status in (
        ("disable", {}, "disabled"),
        ("disable-log-reason", {"disabled_reason": "new disks"}, "disabled"),
        ("enable", {}, "enabled"),
    ):
        put = f"/os-services/{path}"
        answer = await stand.call("PUT", put, named | more, caller="admin", version="2.52")
        assert answer.json() == {"service": {**named, "status": status, **more}}
        (service,) = (await show(stand, "/os-services", version="2.52")).json()["services"]
        assert (service["status"], service["disabled_reason"]) == (status, more.get("disabled_reason"))
        for wrong in ({"host": "none"}, {"binary": "nova-api"}):
            assert (await stand.call("PUT", put, named | more | wrong, caller="admin")).status_code == 404
        assert (await stand.call("PUT", put, {"host": HOST}, caller="admin")).status_code == 400
        assert (await stand.call("PUT", put, named | more)).status_code == 403
        gone = await stand.call("PUT", put, {"status": "enabled"}, caller="admin", version="2.53")
        assert gone.status_code == 404


async def test_a_change_of_a_service_that_means_nothing_is_refused(stand: Stand) -> None:
    (service,) = (await show(stand, "/os-services", version="2.53")).json()["services"]
    path = f"/os-services/{service['id']}"
    for body in (
        {},
        {"disabled_reason": "x"},
        {"status": "enabled", "disabled_reason": "x"},
        {"status": "down"},
        {"forced_down": True},
        {"status": "disabled", "disabled_reason": ""},
    ):
        assert (await stand.call("PUT", path, body, caller="admin", version="2.53")).status_code == 400
    body = {"status": "disabled"}
    assert (await stand.call("PUT", path, body, version="2.53")).status_code == 403
    assert (await stand.call("PUT", path, body, caller="admin", version="2.52")).status_code == 404
    assert (await stand.call("PUT", "/os-services/1", body, caller="admin", version="2.53")).status_code == 404
    assert (await stand.call("GET", "/os-services?stray=1", caller="admin", version="2.75")).status_code == 400


async def test_hypervisors_were_summed_up_and_searched_for_in_older_microversions(stand: Stand) -> None:
    server_id = await stand.make_server(flavorRef="1")
    summed = (await show(stand, "/os-hypervisors/statistics", version="2.87")).json()["hypervisor_statistics"]
    assert (summed["count"], summed["vcpus_used"], summed["running_vms"]) == (1, 1, 1)
    assert (summed["local_gb"], summed["free_disk_gb"], summed["free_ram_mb"]) == (100, 99, 1536)
    assert (await stand.call("GET", "/os-hypervisors/statistics", caller="admin", version="2.88")).status_code == 404
    (found,) = (await show(stand, "/os-hypervisors/host-1/search", version="2.52")).json()["hypervisors"]
    assert found["hypervisor_hostname"] == FACTS["hostname"]
    (found,) = (await show(stand, "/os-hypervisors/example/servers", version="2.52")).json()["hypervisors"]
    assert found["servers"] == [{"uuid": server_id, "name": "web"}]
    for path in ("search", "servers"):
        where = f"/os-hypervisors/none/{path}"
        assert (await stand.call("GET", where, caller="admin")).status_code == 404
        assert (await stand.call("GET", where)).status_code == 403
        assert (await stand.call("GET", where, caller="admin", version="2.53")).status_code == 404
    assert (await stand.call("GET", "/os-hypervisors/statistics")).status_code == 403
