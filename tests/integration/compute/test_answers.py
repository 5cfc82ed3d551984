"""Answers of the compute API that no other test is about: what is refused, at each row that lists it."""

from __future__ import annotations

import pytest

from tests.integration.compute.conftest import Stand, message


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "", {"metadata": {"k": "new"}}),
        ("PUT", "", {"metadata": {"k": "new"}}),
        ("PUT", "/k", {"meta": {"k": "new"}}),
        ("DELETE", "/k", None),
    ],
)
async def test_a_locked_servers_metadata_stays(stand: Stand, method: str, path: str, body: object) -> None:
    server_id = await stand.make_server(metadata={"k": "old"})
    await stand.call("POST", f"/servers/{server_id}/action", {"lock": None})
    answer = await stand.call(method, f"/servers/{server_id}/metadata{path}", body)
    assert (answer.status_code, message(answer)) == (409, f"Instance {server_id} is locked")
    assert (await stand.call("GET", f"/servers/{server_id}/metadata")).json() == {"metadata": {"k": "old"}}


async def test_a_locked_server_takes_no_volume_at_any_microversion(stand: Stand) -> None:
    server_id, volume_id = await stand.make_server(), await stand.make_volume()
    await stand.call("POST", f"/servers/{server_id}/action", {"lock": None})
    path = f"/servers/{server_id}/os-volume_attachments"
    for version in ("2.100", "2.101"):
        for status, named in ((409, volume_id), (400, "none")):
            answer = await stand.call("POST", path, {"volumeAttachment": {"volumeId": named}}, version=version)
            assert answer.status_code == status, answer.text
    assert (await stand.call("GET", path)).json() == {"volumeAttachments": []}


@pytest.mark.parametrize("version", ["2.1", "2.74", "2.75"])
async def test_a_server_is_not_called_nothing(stand: Stand, version: str) -> None:
    server_id = await stand.make_server(name="old")
    answer = await stand.call("PUT", f"/servers/{server_id}", {"server": {"name": ""}}, version=version)
    assert answer.status_code == 400, answer.text
    assert (await stand.call("GET", f"/servers/{server_id}")).json()["server"]["name"] == "old"


async def test_members_see_no_other_projects_details(stand: Stand) -> None:
    assert (await stand.call("GET", "/servers/detail?all_tenants=1")).status_code == 403


@pytest.mark.parametrize("path", ["/os-hypervisors", "/os-hypervisors/detail"])
async def test_a_list_of_hypervisors_is_asked_for_what_can_be(stand: Stand, path: str) -> None:
    for query, status in (("marker=none", 400), ("limit=few", 400), ("hypervisor_hostname_pattern=none", 404)):
        answer = await stand.call("GET", f"{path}?{query}", caller="admin", version="2.53")
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize("path", ["/os-volumes", "/os-snapshots"])
async def test_lists_of_the_older_volumes_are_asked_for_a_number_of_rows(stand: Stand, path: str) -> None:
    for one in (path, f"{path}/detail"):
        assert (await stand.call("GET", f"{one}?limit=few", version="2.35")).status_code == 400


@pytest.mark.parametrize("version", ["2.74", "2.75"])
async def test_a_locked_server_is_not_rebuilt_nor_of_nothing(stand: Stand, version: str) -> None:
    server_id = await stand.make_server()
    path = f"/servers/{server_id}/action"
    answer = await stand.call("POST", path, {"rebuild": {"imageRef": "none"}}, version=version)
    assert answer.status_code == 400, answer.text
    await stand.call("POST", path, {"lock": None})
    answer = await stand.call("POST", path, {"rebuild": {"imageRef": stand.image_id}}, version=version)
    assert (answer.status_code, message(answer)) == (409, f"Instance {server_id} is locked")
