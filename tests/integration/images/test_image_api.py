"""The image API, request by request."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from kevel.api.image.views import IMAGE_SCHEMA
from kevel.control.images.images import Images
from tests.integration.images.conftest import IMAGE_BYTES_MAX, Connect, make_qcow2
from tests.integration.stand import PROJECTS

Files = Callable[[], list[str]]
BYTES = {"Content-Type": "application/octet-stream"}
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
UNKNOWN = "00000000-0000-4000-8000-00000000dead"


async def create(client: httpx.AsyncClient, **values: Any) -> dict[str, Any]:
    answer = await client.post("/images", json={"disk_format": "raw", "container_format": "bare", **values})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    assert answer.headers["Location"].endswith(f"/images/{body['id']}")
    return body


async def upload(client: httpx.AsyncClient, image_id: str, content: bytes) -> httpx.Response:
    return await client.put(f"/images/{image_id}/file", content=content, headers=BYTES)


async def show(client: httpx.AsyncClient, image_id: str) -> dict[str, Any]:
    answer = await client.get(f"/images/{image_id}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def patch(client: httpx.AsyncClient, image_id: str, *steps: dict[str, Any]) -> httpx.Response:
    return await client.request("PATCH", f"/images/{image_id}", json=list(steps), headers=PATCH)


async def in_pieces(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


def assert_message(answer: httpx.Response, status: int, words: str = "") -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == status
    assert words in error["message"]


async def test_discovery_needs_no_token(connect: Connect) -> None:
    client = connect("forged")
    for path in ("http://kevel.test/image", "http://kevel.test/image/versions", "http://kevel.test/image/v2/"):
        answer = await client.get(path, headers={"X-Auth-Token": ""})
        assert answer.status_code == 300
        (version,) = answer.json()["versions"]
        assert version["status"] == "CURRENT"
        assert version["links"] == [{"rel": "self", "href": "http://kevel.test/image/v2/"}]


async def test_every_other_request_needs_a_good_token(connect: Connect) -> None:
    for path in ("/images", f"/images/{UNKNOWN}", "/schemas/image"):
        assert_message(await connect("forged").get(path), 401)
        assert_message(await connect("forged").get(path, headers={"X-Auth-Token": ""}), 401)


async def test_a_reader_reads_and_changes_nothing(connect: Connect, member: httpx.AsyncClient) -> None:
    image = await create(member, name="debian")
    reader = connect("reader")
    assert (await show(reader, image["id"]))["name"] == "debian"
    assert_message(await reader.post("/images", json={}), 403)
    assert_message(await upload(reader, image["id"], b"x"), 403)
    assert_message(await reader.delete(f"/images/{image['id']}"), 403)
    assert_message(await connect("unscoped").get("/images"), 403, "project")


async def test_an_uploaded_image_is_active_and_comes_back_byte_by_byte(
    member: httpx.AsyncClient, list_files: Files, tmp_path: Path
) -> None:
    image = await create(member, name="disk", hw_disk_bus="scsi", tags=["b", "a"])
    assert (image["status"], image["size"], image["checksum"], image["visibility"]) == ("queued", None, None, "shared")
    assert (await member.get(f"/images/{image['id']}/file")).status_code == 204
    content = os.urandom(3 * 1024 * 1024 + 17)
    answer = await member.put(f"/images/{image['id']}/file", content=in_pieces(content, 65536), headers=BYTES)
    assert (answer.status_code, answer.content) == (204, b"")
    shown = await show(member, image["id"])
    assert shown["status"] == "active"
    assert shown["size"] == shown["virtual_size"] == len(content)
    assert shown["checksum"] == hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert (shown["os_hash_algo"], shown["os_hash_value"]) == ("sha512", hashlib.sha512(content).hexdigest())
    assert (shown["hw_disk_bus"], shown["tags"], shown["owner"]) == ("scsi", ["a", "b"], PROJECTS["member"])
    (name,) = list_files()
    assert (tmp_path / "images" / name).read_bytes() == content
    assert (tmp_path / "images" / name).stat().st_mode & 0o777 == 0o600
    got = await member.get(f"/images/{image['id']}/file")
    assert (got.status_code, got.content) == (200, content)
    assert got.headers["Content-Type"] == "application/octet-stream"
    assert (got.headers["Content-Length"], got.headers["Content-MD5"]) == (str(len(content)), shown["checksum"])


async def test_an_answer_is_what_the_schema_says(member: httpx.AsyncClient) -> None:
    image = await create(member, hw_disk_bus="scsi")
    await upload(member, image["id"], b"x")
    schema = (await member.get("/schemas/image")).json()
    assert schema == IMAGE_SCHEMA
    assert (await member.get("/schemas/images")).json()["properties"]["images"]["items"] == schema
    kinds = {"string": str, "integer": int, "boolean": bool, "array": list, "null": type(None)}
    shown = await show(member, image["id"])
    assert schema["properties"].keys() <= shown.keys()
    for name, value in shown.items():
        described = schema["properties"].get(name, schema["additionalProperties"])
        names = described["type"] if isinstance(described["type"], list) else [described["type"]]
        assert isinstance(value, tuple(kinds[kind] for kind in names)), name
        assert value in described.get("enum", [value])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"disk_format": "vmdk"}, 400),
        ({"disk_format": "iso"}, 400),
        ({"disk_format": "aki", "container_format": "bare"}, 400),
        ({"name": "x" * 256}, 400),
        ({"min_disk": -1}, 400),
        ({"min_ram": 10**30}, 400),
        ({"hw_disk_bus": 7}, 400),
        ({"id": "../../etc/passwd"}, 400),
        ({"id": 7}, 400),
        ({"tags": ["x"] * 3 + [1]}, 400),
        ({"visibility": "public"}, 403),
        ({"owner": "22" * 16}, 403),
        ({"size": 1}, 403),
        ({"locations": [{"url": "file:///etc/passwd", "metadata": {}}]}, 403),
        ({"status": "active"}, 403),
        ({f"p{number}": "x" for number in range(129)}, 413),
        (["a list"], 400),
        (None, 400),
    ],
)
async def test_a_bad_creation_is_refused_and_changes_nothing(
    member: httpx.AsyncClient, body: object, status: int
) -> None:
    assert_message(await member.post("/images", json=body), status)
    assert (await member.get("/images")).json()["images"] == []


async def test_an_id_may_be_chosen_once(member: httpx.AsyncClient, connect: Connect) -> None:
    image = await create(member, id=UNKNOWN)
    assert image["id"] == UNKNOWN
    for client in (member, connect("other")):
        assert_message(await client.post("/images", json={"id": UNKNOWN}), 409, "already exists")
    assert (await member.delete(f"/images/{UNKNOWN}")).status_code == 204
    assert_message(await connect("other").post("/images", json={"id": UNKNOWN}), 409, "already exists")


async def test_a_project_has_a_bounded_number_of_images(member: httpx.AsyncClient, connect: Connect) -> None:
    for _ in range(20):
        await create(member)
    assert_message(await member.post("/images", json={}), 413, "20 images")
    await create(connect("other"))


async def test_another_project_sees_only_what_is_shown_to_it(member: httpx.AsyncClient, connect: Connect) -> None:
    other, admin = connect("other"), connect("admin")
    hidden_from_others = [(await create(member, visibility=word))["id"] for word in ("private", "shared")]
    community = (await create(member, visibility="community"))["id"]
    public = (await create(admin, visibility="public"))["id"]
    for image_id in hidden_from_others:
        assert_message(await other.get(f"/images/{image_id}"), 404, image_id)
        assert_message(await other.get(f"/images/{image_id}/file"), 404)
        assert_message(await upload(other, image_id, b"x"), 404)
        assert_message(await patch(other, image_id, {"op": "replace", "path": "/name", "value": "mine"}), 404)
        assert_message(await other.put(f"/images/{image_id}/tags/mine"), 404)
        assert_message(await other.delete(f"/images/{image_id}"), 404)
        assert (await show(admin, image_id))["owner"] == PROJECTS["member"]
    assert [image["id"] for image in (await other.get("/images")).json()["images"]] == [public]
    listed = (await other.get("/images", params={"visibility": "community"})).json()["images"]
    assert [image["id"] for image in listed] == [community]
    for image_id in (community, public):
        await show(other, image_id)
        assert_message(await other.delete(f"/images/{image_id}"), 403, "another project")
        assert_message(await upload(other, image_id, b"x"), 403)


async def test_a_list_is_filtered_and_paged(member: httpx.AsyncClient) -> None:
    ids = [(await create(member, name=f"image-{number}"))["id"] for number in range(5)]
    found = (await member.get("/images", params={"name": "image-3"})).json()["images"]
    assert [image["id"] for image in found] == [ids[3]]
    assert (await member.get("/images", params={"name": "image-9"})).json()["images"] == []
    seen: list[str] = []
    path: str | None = "/v2/images?limit=2&sort=name:asc"
    while path is not None:
        page = (await member.get(f"http://kevel.test/image{path}")).json()
        assert page["schema"] == "/v2/schemas/images"
        seen += [image["id"] for image in page["images"]]
        path = page.get("next")
    assert seen == ids
    assert_message(await member.get("/images", params={"limit": "-1"}), 400, "limit")
    assert_message(await member.get("/images/image-3"), 404)


async def test_a_patch_is_carried_out_whole_or_not_at_all(member: httpx.AsyncClient) -> None:
    image_id = (await create(member, name="old", os_distro="debian"))["id"]
    answer = await patch(
        member,
        image_id,
        {"op": "replace", "path": "/name", "value": "new"},
        {"op": "add", "path": "/a~1b~0c", "value": "x"},
        {"op": "replace", "path": "/os_distro", "value": "ubuntu"},
        {"op": "replace", "path": "/min_ram", "value": 96},
        {"op": "replace", "path": "/tags", "value": ["t"]},
        {"op": "replace", "path": "/protected", "value": True},
    )
    assert answer.status_code == 200
    shown = await show(member, image_id)
    assert answer.json() == shown
    assert (shown["name"], shown["a/b~c"], shown["os_distro"], shown["min_ram"]) == ("new", "x", "ubuntu", 96)
    assert (shown["tags"], shown["protected"]) == (["t"], True)
    good = {"op": "replace", "path": "/name", "value": "newest"}
    for bad, status in (
        ({"op": "replace", "path": "/min_ram", "value": "x"}, 400),
        ({"op": "replace", "path": "/no_such", "value": "x"}, 409),
        ({"op": "remove", "path": "/no_such"}, 409),
        ({"op": "remove", "path": "/name"}, 403),
        ({"op": "replace", "path": "/id", "value": UNKNOWN}, 403),
        ({"op": "add", "path": "/locations", "value": []}, 403),
        ({"op": "replace", "path": "/visibility", "value": "public"}, 403),
        ({"op": "test", "path": "/name", "value": "new"}, 400),
        ({"op": "add", "path": "/name"}, 400),
        ({"op": "add", "path": "/tags/-", "value": "x"}, 400),
        ({"op": "add", "path": "name", "value": "x"}, 400),
        ({"op": "add", "path": "/", "value": "x"}, 400),
        ({"path": "/name", "value": "x"}, 400),
    ):
        assert_message(await patch(member, image_id, good, bad), status)
        assert await show(member, image_id) == shown
    answer = await patch(member, image_id, {"op": "remove", "path": "/os_distro"})
    assert "os_distro" not in answer.json()


async def test_a_patch_says_what_it_is(member: httpx.AsyncClient) -> None:
    image_id = (await create(member))["id"]
    for media_type in ("application/json", "application/openstack-images-v2.0-json-patch", "text/plain"):
        answer = await member.request("PATCH", f"/images/{image_id}", json=[], headers={"Content-Type": media_type})
        assert_message(answer, 415)
    steps = [{"op": "add", "path": "/p", "value": "x"}] * 257
    assert_message(await patch(member, image_id, *steps), 400, "256")


async def test_tags_come_and_go(member: httpx.AsyncClient) -> None:
    image_id = (await create(member))["id"]
    for _ in range(2):
        assert (await member.put(f"/images/{image_id}/tags/stable")).status_code == 204
    assert (await show(member, image_id))["tags"] == ["stable"]
    assert (await member.delete(f"/images/{image_id}/tags/stable")).status_code == 204
    assert_message(await member.delete(f"/images/{image_id}/tags/stable"), 404, "stable")
    assert_message(await member.put(f"/images/{image_id}/tags/{'x' * 256}"), 400)


async def test_a_deleted_image_is_gone_with_its_file(member: httpx.AsyncClient, list_files: Files) -> None:
    image_id = (await create(member, protected=True))["id"]
    await upload(member, image_id, b"x")
    assert_message(await member.delete(f"/images/{image_id}"), 403, "protected")
    assert len(list_files()) == 1
    await patch(member, image_id, {"op": "replace", "path": "/protected", "value": False})
    answer = await member.delete(f"/images/{image_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert list_files() == []
    assert_message(await member.get(f"/images/{image_id}"), 404)
    assert_message(await member.delete(f"/images/{image_id}"), 404)


async def assert_waits_for_bytes(member: httpx.AsyncClient, image_id: str, list_files: Files) -> None:
    """Nothing is left of a refused upload, and the next one succeeds."""
    shown = await show(member, image_id)
    assert (shown["status"], shown["size"], shown["checksum"]) == ("queued", None, None)
    assert list_files() == []


async def test_bytes_that_are_not_as_announced_are_refused(member: httpx.AsyncClient, list_files: Files) -> None:
    image_id = (await create(member))["id"]
    file = f"/images/{image_id}/file"
    assert_message(await member.put(file, content=b"x", headers={"Content-Type": "text/plain"}), 415)
    assert_message(await upload(member, image_id, b""), 400, "empty")
    sized = {**BYTES, "X-OpenStack-Image-Size": "4"}
    assert_message(await member.put(file, content=in_pieces(b"abc"), headers=sized), 400, "4 bytes")
    sized = {**BYTES, "X-OpenStack-Image-Size": "many"}
    assert_message(await member.put(file, content=b"abc", headers=sized), 400)
    sized = {**BYTES, "X-OpenStack-Image-Size": str(IMAGE_BYTES_MAX + 1)}
    assert_message(await member.put(file, content=b"abc", headers=sized), 413, "too large")
    await assert_waits_for_bytes(member, image_id, list_files)
    assert (await upload(member, image_id, b"abc")).status_code == 204
    assert_message(await upload(member, image_id, b"abc"), 409, "active")
    assert_message(await upload(member, UNKNOWN, b"abc"), 404)


async def test_an_image_needs_its_formats_before_its_bytes(member: httpx.AsyncClient) -> None:
    image = (await member.post("/images", json={"name": "bare", "disk_format": "raw"})).json()
    assert_message(await upload(member, image["id"], b"x"), 400, "container_format")


async def test_an_image_that_is_too_large_is_refused(member: httpx.AsyncClient, list_files: Files) -> None:
    image_id = (await create(member))["id"]
    content = bytes(IMAGE_BYTES_MAX + 1)
    answer = await member.put(f"/images/{image_id}/file", content=in_pieces(content, 65536), headers=BYTES)
    assert_message(answer, 413, "too large")
    await assert_waits_for_bytes(member, image_id, list_files)
    assert (await upload(member, image_id, content[1:])).status_code == 204


async def test_a_full_disk_is_a_clear_error_and_leaves_nothing(
    member: httpx.AsyncClient, list_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = (await create(member))["id"]
    real_write, calls = os.write, 0

    def write_until_full(fd: int, content: memoryview) -> int:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(fd, content[:4096])

    with monkeypatch.context() as patched:
        patched.setattr("kevel.storage.image_files.os.write", write_until_full)
        assert_message(await upload(member, image_id, bytes(1024 * 1024)), 413, "disk space")
    assert calls == 3
    await assert_waits_for_bytes(member, image_id, list_files)
    with monkeypatch.context() as patched:
        patched.setattr("kevel.runtime.files.FREE_BYTES_MIN", 2**62)
        assert_message(await upload(member, image_id, b"x"), 413, "disk space")
    await assert_waits_for_bytes(member, image_id, list_files)
    assert (await upload(member, image_id, b"x")).status_code == 204


async def test_an_upload_that_stalls_ends(member: httpx.AsyncClient, images: Images, list_files: Files) -> None:
    images._limits = msgspec.structs.replace(images._limits, upload_idle_s=0.2)
    image_id = (await create(member))["id"]

    async def stall() -> AsyncIterator[bytes]:
        yield bytes(1024 * 1024)
        await asyncio.sleep(30)
        yield b"late"

    answer = await member.put(f"/images/{image_id}/file", content=stall(), headers=BYTES)
    assert_message(answer, 408, "0.2 s")
    await assert_waits_for_bytes(member, image_id, list_files)


async def test_an_image_takes_one_upload_at_a_time(member: httpx.AsyncClient) -> None:
    image_id = (await create(member))["id"]
    begun, finish = asyncio.Event(), asyncio.Event()

    async def hold() -> AsyncIterator[bytes]:
        yield b"first"
        begun.set()
        await finish.wait()

    first = asyncio.create_task(member.put(f"/images/{image_id}/file", content=hold(), headers=BYTES))
    await begun.wait()
    assert (await show(member, image_id))["status"] == "saving"
    assert_message(await upload(member, image_id, b"second"), 409, "saving")
    assert_message(await patch(member, image_id, {"op": "replace", "path": "/disk_format", "value": "qcow2"}), 403)
    assert (await patch(member, image_id, {"op": "replace", "path": "/name", "value": "new"})).status_code == 200
    finish.set()
    assert (await first).status_code == 204
    shown = await show(member, image_id)
    assert (shown["size"], shown["name"]) == (5, "new")


async def test_an_image_may_be_deleted_while_it_is_uploaded(member: httpx.AsyncClient, list_files: Files) -> None:
    image_id = (await create(member))["id"]
    begun, finish = asyncio.Event(), asyncio.Event()

    async def hold() -> AsyncIterator[bytes]:
        yield b"first"
        begun.set()
        await finish.wait()

    first = asyncio.create_task(member.put(f"/images/{image_id}/file", content=hold(), headers=BYTES))
    await begun.wait()
    assert (await member.delete(f"/images/{image_id}")).status_code == 204
    finish.set()
    assert_message(await first, 404, "deleted while")
    assert list_files() == []


async def test_a_download_goes_on_when_its_image_is_deleted(member: httpx.AsyncClient, images: Images) -> None:
    content = os.urandom(2 * 1024 * 1024)
    image_id = (await create(member))["id"]
    await upload(member, image_id, content)
    sent: list[dict[str, Any]] = []
    half_way, go_on, never = asyncio.Event(), asyncio.Event(), asyncio.Event()
    requests = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not requests:
            await never.wait()
        return requests.pop()

    async def send(message: Any) -> None:
        sent.append(message)
        if message.get("body"):
            half_way.set()
            await go_on.wait()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "server": ("kevel.test", 80),
        "path": f"/image/v2/images/{image_id}/file",
        "query_string": b"",
        "headers": [(b"x-auth-token", b"member")],
    }
    app: Any = member._transport.app  # type: ignore[attr-defined]
    download = asyncio.create_task(app(scope, receive, send))
    await half_way.wait()
    assert (await member.delete(f"/images/{image_id}")).status_code == 204
    go_on.set()
    await download
    assert b"".join(message.get("body", b"") for message in sent) == content


@pytest.mark.parametrize("options", [(), ("-o", "compat=0.10"), ("-o", "cluster_size=2M"), ("-o", "extended_l2=on")])
async def test_a_qcow2_image_tells_its_virtual_size(
    member: httpx.AsyncClient, tmp_path: Path, options: tuple[str, ...]
) -> None:
    content = make_qcow2(tmp_path / "sound.qcow2", *options)
    image_id = (await create(member, disk_format="qcow2"))["id"]
    assert (await upload(member, image_id, content)).status_code == 204
    shown = await show(member, image_id)
    assert (shown["size"], shown["virtual_size"]) == (len(content), 1024**3)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("backing file", "backing file"),
        ("backing file, format named", "backing file"),
        ("data file", "another file"),
        ("encrypted", "encrypted"),
        ("cut off", "incomplete"),
        ("raw", "does not begin"),
        ("huge", "virtual size"),
    ],
)
async def test_a_qcow2_image_that_is_not_sound_is_refused_and_nothing_is_left(
    member: httpx.AsyncClient, list_files: Files, tmp_path: Path, kind: str, words: str
) -> None:
    base = tmp_path / "base.qcow2"
    make_qcow2(base)
    path = tmp_path / "image.qcow2"
    if kind == "backing file":
        content = make_qcow2(path, "-u", "-b", "/etc/passwd", "-F", "raw")
    elif kind == "backing file, format named":
        content = make_qcow2(path, "-b", str(base), "-F", "qcow2", size=None)
    elif kind == "data file":
        content = make_qcow2(path, "-o", f"data_file={tmp_path}/data.raw")
    elif kind == "encrypted":
        secret = ("--object", "secret,id=key,data=opensesame")
        content = make_qcow2(path, *secret, "-o", "encrypt.format=aes,encrypt.key-secret=key")
    elif kind == "cut off":
        content = make_qcow2(path)[:65536]
    elif kind == "raw":
        content = bytes(65536)
    else:
        content = make_qcow2(path, size="20T")
    image_id = (await create(member, disk_format="qcow2"))["id"]
    assert_message(await upload(member, image_id, content), 400, words)
    await assert_waits_for_bytes(member, image_id, list_files)
    assert (await upload(member, image_id, base.read_bytes())).status_code == 204


async def test_raw_bytes_are_never_looked_at(member: httpx.AsyncClient, tmp_path: Path) -> None:
    content = make_qcow2(tmp_path / "evil.qcow2", "-u", "-b", "/etc/passwd", "-F", "raw")
    image_id = (await create(member))["id"]
    assert (await upload(member, image_id, content)).status_code == 204
    shown = await show(member, image_id)
    assert (shown["disk_format"], shown["virtual_size"]) == ("raw", len(content))


async def test_an_unknown_path_or_method_is_an_error(member: httpx.AsyncClient) -> None:
    for path in ("/images/x/y", f"/images/{UNKNOWN}/members", "/metadefs/namespaces", "/images/../../etc/passwd"):
        assert_message(await member.get(path), 404)
    assert_message(await member.post(f"/images/{UNKNOWN}", json={}), 405)


async def test_a_deactivated_image_keeps_its_bytes_to_itself_until_it_is_active_again(
    member: httpx.AsyncClient, connect: Connect, images: Images, list_files: Files
) -> None:
    image_id = (await create(member))["id"]
    assert_message(await member.post(f"/images/{image_id}/actions/deactivate"), 403, "queued")
    await upload(member, image_id, b"bytes")
    assert_message(await member.post(f"/images/{UNKNOWN}/actions/deactivate"), 404)
    for _ in range(2):  # asked twice equals once
        assert (await member.post(f"/images/{image_id}/actions/deactivate")).status_code == 204
    assert (await show(member, image_id))["status"] == "deactivated"
    assert_message(await member.get(f"/images/{image_id}/file"), 403, "deactivated")
    await images.open()
    assert len(list_files()) == 1, "a start keeps its file"
    assert (await member.post(f"/images/{image_id}/actions/reactivate")).status_code == 204
    assert (await member.get(f"/images/{image_id}/file")).content == b"bytes"
    assert_message(await member.post(f"/images/{UNKNOWN}/actions/reactivate"), 404)
    for action in ("deactivate", "reactivate"):
        assert_message(await connect("other").post(f"/images/{image_id}/actions/{action}"), 404)
