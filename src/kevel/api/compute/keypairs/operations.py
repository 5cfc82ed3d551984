"""The rows of key pairs."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.compute.keypairs import handlers, shapes
from kevel.api.compute.shapes import v
from kevel.api.operations import Operation, Policy

#: Key pairs are the user's own, so a reader may change them.
_own = partial(Operation, policy=Policy.READER)
_create = partial(
    _own, method="POST", path="/os-keypairs", handler=handlers.create_keypair, reply=shapes.MADE, needs_space=True
)
_delete = partial(
    _own,
    method="DELETE",
    path="/os-keypairs/{name}",
    handler=handlers.delete_keypair,
    reply=None,
)

KEYPAIRS: Final = (
    _own(
        name="listKeypairs",
        method="GET",
        path="/os-keypairs",
        handler=handlers.list_keypairs,
        reply=shapes.PAIRS,
        query_names=("user_id", "limit", "marker"),
        new_id="/keypairs/0/keypair/name",
        errors=(400, 403),
    ),
    _own(
        name="showKeypair",
        method="GET",
        path="/os-keypairs/{name}",
        handler=handlers.show_keypair,
        reply=shapes.PAIR,
        query_names=("user_id",),
        errors=(400, 403, 404),
    ),
    _create(
        name="createKeypair",
        body=shapes.PairBody,
        new_id="/keypair/name",
        errors=(400, 403, 409),
        until=v(1),
    ),
    _create(
        name="createTypedKeypair",
        body=shapes.PairBody,
        new_id="/keypair/name",
        success=201,
        errors=(400, 403, 409),
        since=handlers.TYPES,
        until=v(91),
    ),
    _create(
        name="importKeypair",
        body=shapes.ImportBody,
        new_id="/keypair/name",
        success=201,
        errors=(400, 403, 409),
        since=handlers.IMPORT_ONLY,
    ),
    _delete(name="deleteKeypair", success=202, errors=(404,), until=v(1)),
    _delete(
        name="deleteTypedKeypair",
        query_names=("user_id",),
        success=204,
        errors=(400, 403, 404),
        since=handlers.TYPES,
    ),
)
