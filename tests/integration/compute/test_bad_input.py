from __future__ import annotations

from typing import Any

import pytest

from kevel.api.compute import API
from kevel.api.compute.server_bodies import ServerKeys
from kevel.api.compute.volume_attachments import AttachKeys
from kevel.domain.ladder import Rung
from tests.integration.compute.conftest import Stand
from tests.integration.rows import fill_path

#: Things that clients should not send anywhere.
NASTY: tuple[Any, ...] = (
    *(None, [], {}, 0, -1, 10**30, 1e308, True, "", "\x00", "x" * 70000, "\u202e\ud7ff", [[]]),
    *({"a": {"b": None}}, [{"uuid": None}], [None], "%00", "../x"),
)
WRAPPERS = ("server", "volumeAttachment", "metadata", "meta", "flavor", "extra_specs", "reboot")
KEYS = ("name", "flavorRef", "metadata", "volumeId", "type", "description", "ram", "vcpus", "disk", "k")
WRITERS = sorted({(row.method, row.path) for row in API.operations if row.method in ("POST", "PUT")})


@pytest.mark.parametrize(("method", "path"), WRITERS)
async def test_no_body_makes_a_server_error_and_none_makes_anything(stand: Stand, method: str, path: str) -> None:
    server_id = await stand.make_server()
    flavors = (await stand.call("GET", "/flavors")).json()
    at = fill_path(path, {"server_id": server_id, "flavor_id": "tiny"})
    bodies = [*NASTY, *({wrapper: nasty} for wrapper in WRAPPERS for nasty in NASTY)]
    bodies += [{wrapper: {key: nasty}} for wrapper in WRAPPERS for key in KEYS for nasty in NASTY]
    for body in bodies:
        answer = await stand.call(method, at, body, caller="admin", version="2.100")
        assert answer.status_code < 500, (body, answer.text)
    listed = (await stand.call("GET", "/servers?all_tenants=1", caller="admin")).json()["servers"]
    assert [one["id"] for one in listed] == [server_id]
    if "flavors" not in path:
        assert (await stand.call("GET", "/flavors")).json() == flavors


async def test_no_single_key_of_a_new_server_makes_a_server_error(stand: Stand) -> None:
    for key in ServerKeys.__struct_encode_fields__:
        for nasty in NASTY:
            before = (await stand.call("GET", "/servers?limit=1")).json()
            answer = await stand.ask_server(version="2.104", caller="admin", **{key: nasty})
            assert answer.status_code in (202, 400, 403, 409), (key, nasty, answer.text)
            if answer.status_code != 202:
                assert (await stand.call("GET", "/servers?limit=1")).json() == before
            elif "server" in answer.json():  # and not its reservation alone
                await stand.call("DELETE", f"/servers/{answer.json()['server']['id']}", caller="admin")


async def test_no_single_key_of_an_attachment_makes_a_server_error(stand: Stand) -> None:
    server_id, volume_id = await stand.make_server(), await stand.make_volume()
    for key in AttachKeys.__struct_encode_fields__:
        for nasty in NASTY:
            if nasty is None and key == "device":
                continue  # the openstack command sends it
            answer = await stand.attach(server_id, **{"volume_id": volume_id, key: nasty})
            fine = (key == "delete_on_termination" and nasty in (0, True)) or (
                key == "tag" and nasty in ("%00", "\u202e\ud7ff")
            )
            assert answer.status_code == (200 if fine else 400), (key, nasty, answer.text)
            if fine:
                await stand.call("DELETE", f"/servers/{server_id}/os-volume_attachments/{volume_id}")
                await stand.host_moved(server_id, volume_id, Rung.EXPORTED)


@pytest.mark.parametrize(
    "thing_id", ["%00", "..%2f..%2fx", "x" * 5000, "%F0%9F%92%A9", "'%20OR%201=1--", "%ff", "%0a", "null"]
)
async def test_no_id_makes_a_server_error(stand: Stand, thing_id: str) -> None:
    paths = sorted({row.path for row in API.operations if row.method == "GET" and "{" in row.path})
    for path in paths:
        filled = fill_path(path, {}, thing_id)
        answer = await stand.call("GET", filled, caller="admin", version="2.100")
        # An admin may ask for the limits of any project, one that identity does not know as well.
        fine = (200, 400, 404) if "{project_id}" in path else (400, 404)
        assert answer.status_code in fine, (filled, answer.text)


@pytest.mark.parametrize(
    ("raw", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"server": {"name": "\xff"}}', "application/json", 400),
        (b'{"server": {"name": "\\ud800"}}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"", "application/json", 400),
        (b"<server/>", "application/xml", 415),
        (b" " * (1024 * 1024 + 1), "application/json", 413),
    ],
)
async def test_what_is_no_json_is_refused(stand: Stand, raw: bytes, content_type: str, status: int) -> None:
    answer = await stand.clients["member"].post("/servers", content=raw, headers={"Content-Type": content_type})
    assert answer.status_code == status
    assert (await stand.call("GET", "/servers")).json() == {"servers": []}
