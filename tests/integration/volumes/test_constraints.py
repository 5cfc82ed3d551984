"""What the schema itself refuses about volumes, written with raw SQL past all of Kevel's own checks."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from kevel.store.transactions import Tx
from tests.integration.volumes.conftest import World

BEGIN_OPERATION = (
    "INSERT INTO operations (subject, subject_id, volume_id, kind, args, request_id, created_at, deadline_at)"
    " VALUES ('volume', {0}, {0}, '{1}', '{{}}', 'r', 1, 1)"
)


def run_sql(tx: Tx, statement: str, values: dict[str, Any]) -> None:
    tx.execute(text(statement), values)


@pytest.mark.parametrize(
    "statement",
    [
        # A size that is none.
        "UPDATE volumes SET size_gib = 0 WHERE id = :id",
        "UPDATE volumes SET size_gib = -1 WHERE id = :id",
        # A format that nobody knows, and one that cannot be shared.
        "UPDATE volumes SET format = 'vmdk' WHERE id = :id",
        "UPDATE volumes SET format = 'qcow2', multiattach = TRUE WHERE id = :id",
        # Half a tombstone.
        "UPDATE volumes SET deleted_at = 1 WHERE id = :id",
        "UPDATE volumes SET live = NULL WHERE id = :id",
        "UPDATE volumes SET live = 2 WHERE id = :id",
        # A type that is not there, and the end of one that is.
        "UPDATE volumes SET volume_type_id = 'none' WHERE id = :id",
        "DELETE FROM volume_types WHERE id = (SELECT volume_type_id FROM volumes WHERE id = :id)",
        # A row that history refers to.
        "DELETE FROM volumes WHERE id = :id",
        # Two types of one name.
        "INSERT INTO volume_types (id, name, is_public, extra_specs, created_at) VALUES ('t', 'standard', TRUE, '', 1)",
        # Work that is none, and work on nothing.
        BEGIN_OPERATION.format(":id", "painting"),
        BEGIN_OPERATION.format("'none'", "creating"),
    ],
)
async def test_a_forbidden_state_cannot_be_written(world: World, statement: str) -> None:
    volume_id = await world.make()
    with pytest.raises(IntegrityError):
        await world.runtime.store.write(run_sql, statement, {"id": volume_id})
    assert await world.status(volume_id) == "available"


@pytest.mark.parametrize(
    "statement",
    [
        # The end of a volume that somebody holds.
        "UPDATE volumes SET deleted_at = 1, live = NULL WHERE id = :id",
        # A lie about its being shared.
        "UPDATE volumes SET multiattach = TRUE WHERE id = :id",
    ],
)
async def test_a_held_volume_neither_ends_nor_changes_how_it_is_shared(world: World, statement: str) -> None:
    volume_id = await world.make()
    await world.attach(volume_id)
    with pytest.raises(IntegrityError):
        await world.runtime.store.write(run_sql, statement, {"id": volume_id})
    assert await world.status(volume_id) == "in-use"


async def test_a_volume_has_one_operation_at_a_time(world: World) -> None:
    volume_id = (await world.ask()).json()["volume"]["id"]
    statement = BEGIN_OPERATION.format(":id", "deleting")
    with pytest.raises(IntegrityError):
        await world.runtime.store.write(run_sql, statement, {"id": volume_id})
    assert await world.status(volume_id) == "creating"
