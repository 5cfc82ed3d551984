"""What every row of the table owes: another project's image is not found, nor is one that is not there."""

from __future__ import annotations

from typing import Any, Final

import httpx
import pytest

from kevel.api.image import API
from kevel.control.runtime import Runtime
from tests.integration.images.conftest import Connect
from tests.integration.rows import NOTHING, Asker, read_everything, rows_shut_to, rows_with

OWNED: Final = ("image_id",)
#: What a row has to be asked so that only the image can be wrong, where it is more than the smallest body.
BODIES: Final[dict[str, Any]] = {}
ASKER: Final = Asker(API, BODIES)


@pytest.mark.parametrize(("caller", "mine"), [("other", True), ("admin", False)])
async def test_an_image_of_another_project_or_of_nobody_is_not_found_and_nothing_changes(
    connect: Connect, member: httpx.AsyncClient, runtime: Runtime, caller: str, mine: bool
) -> None:
    body = {"name": "mine", "disk_format": "raw", "container_format": "bare", "tags": ["k"]}
    made = await member.post("/images", json=body)
    assert made.status_code == 201, made.text
    things = {"image_id": made.json()["id"] if mine else NOTHING}
    before = await runtime.store.read(read_everything)
    wrong = await ASKER.find_unrefused(connect(caller), rows_with(API, OWNED), things, lambda row: 404)
    assert not wrong, "\n".join(wrong)
    assert await runtime.store.read(read_everything) == before


async def test_a_reader_changes_nothing(connect: Connect, runtime: Runtime) -> None:
    before = await runtime.store.read(read_everything)
    wrong = await ASKER.find_unrefused(connect("reader"), rows_shut_to(API, "reader"), {}, lambda row: 403)
    assert not wrong, "\n".join(wrong)
    assert await runtime.store.read(read_everything) == before
