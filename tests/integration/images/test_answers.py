"""Answers of the image API that no other test is about: too many, in use, not now."""

from __future__ import annotations

import httpx
import pytest

from kevel.control.images import images as control
from kevel.domain.images import PROPERTIES_MAX, TAGS_MAX
from kevel.store import images as rows
from tests.integration.images.test_image_api import BYTES, PATCH, create


async def test_an_image_has_only_so_many_tags_and_properties(member: httpx.AsyncClient) -> None:
    tags = [f"t{number}" for number in range(TAGS_MAX)]
    properties = {f"p{number}": "v" for number in range(PROPERTIES_MAX)}
    image = await create(member, tags=tags, **properties)
    path = f"/images/{image['id']}"
    assert (await member.put(f"{path}/tags/one-more")).status_code == 413
    step = {"op": "add", "path": "/one-more", "value": "v"}
    assert (await member.request("PATCH", path, json=[step], headers=PATCH)).status_code == 413
    assert (await member.get(path)).json() == image


async def test_an_image_of_which_a_server_is_being_made_is_not_deleted(
    member: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await create(member)
    assert (await member.put(f"/images/{image['id']}/file", content=b"bytes", headers=BYTES)).status_code == 204
    with monkeypatch.context() as patch:
        patch.setattr(rows, "is_file_in_use", lambda tx, file: True)
        assert (await member.delete(f"/images/{image['id']}")).status_code == 409
    assert (await member.get(f"/images/{image['id']}/file")).content == b"bytes"


async def test_transfers_beyond_those_that_are_under_way_are_put_off(
    member: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, empty = await create(member), await create(member)
    assert (await member.put(f"/images/{full['id']}/file", content=b"bytes", headers=BYTES)).status_code == 204
    with monkeypatch.context() as patch:
        patch.setattr(control, "TRANSFERS_MAX", 0)
        assert (await member.get(f"/images/{full['id']}/file")).status_code == 503
        assert (await member.put(f"/images/{empty['id']}/file", content=b"bytes", headers=BYTES)).status_code == 503
    assert (await member.get(f"/images/{full['id']}/file")).content == b"bytes"
    assert (await member.get(f"/images/{empty['id']}")).json()["status"] == "queued"
