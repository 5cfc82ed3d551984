"""Rows under the ones that tests of the store speak of."""

from __future__ import annotations

import msgspec
from sqlalchemy import insert

from kevel.store.hosts import register_host
from kevel.store.schema.servers import servers
from kevel.store.schema.volumes import volume_types
from kevel.store.transactions import Tx
from kevel.store.volumes import insert_volume
from tests.things import T0, make_server, make_volume


def insert_type(tx: Tx) -> None:
    values: dict[str, object] = {
        "id": "type",
        "name": "plain",
        "description": None,
        "is_public": True,
        "extra_specs": {},
        "created_at": T0,
    }
    tx.execute(insert(volume_types), values)


def insert_server(tx: Tx, server_id: str = "server", **changes: object) -> None:
    values = msgspec.structs.asdict(make_server(id=server_id, **changes))
    tx.execute(insert(servers), values | {"host_version": 1})


def insert_ground(tx: Tx) -> None:
    """A host "here" of epoch 1, a volume type, the volume "volume" and the server "server"."""
    register_host(tx, name="here", availability_zone="nova", facts={"max_volumes": 8}, at=T0)
    insert_type(tx)
    insert_volume(tx, make_volume())
    insert_server(tx)
