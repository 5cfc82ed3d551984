"""Transfers: words in, a use case, words out. Both addresses of Cinder's lead here."""

from __future__ import annotations

from typing import Any, Final

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.listing import read_query, read_scope
from kevel.api.volume.paging import own_links, page_reply, read_page
from kevel.api.volume.transfers.shapes import TransferFieldsV355
from kevel.api.volume.values import read_bool, read_text, show_time
from kevel.store.transfers import SORT_COLUMNS, Transfer

#: Marker and sort keys came with it.
_PAGES_SINCE: Final = Version(3, 59)
_SNAPSHOTS_SINCE: Final = Version(3, 55)
#: Encrypted volumes are offered, too.
_ENCRYPTED_SINCE: Final = Version(3, 70)
_HISTORY_SINCE: Final = Version(3, 57)


async def create_transfer(call: Call) -> Reply:
    """Offer a volume."""
    fields = call.body.transfer
    wanted = getattr(fields, "no_snapshots", None)
    no_snapshots = wanted is not None and read_bool(wanted, "no_snapshots")
    transfers = call.services.transfers
    # The older address takes none, whatever the microversion.
    encrypted = call.version >= _ENCRYPTED_SINCE and isinstance(fields, TransferFieldsV355)
    transfer, key = await transfers.create(
        call.actor,
        fields.volume_id,
        read_text(fields.name, "name"),
        no_snapshots=no_snapshots,
        encrypted=encrypted,
    )
    return Reply(body={"transfer": _detail(call, transfer) | {"auth_key": key}})


async def list_transfers(call: Call) -> Reply:
    """Open offers, in short."""
    return await _list(call, is_detail=False)


async def list_details(call: Call) -> Reply:
    """Open offers."""
    return await _list(call, is_detail=True)


async def _list(call: Call, *, is_detail: bool) -> Reply:
    query = read_query(call)
    if call.version < _PAGES_SINCE:
        # Cinder knew only limit and offset before, and showed the oldest first.
        query = {name: value for name, value in query.items() if name not in ("sort", "sort_key", "marker")}
    page = read_page(call, query, SORT_COLUMNS, down=call.version >= _PAGES_SINCE)
    found = await call.services.transfers.list(
        read_scope(call, query),
        page,
        name=query.get("name", query.get("display_name")),
        volume_id=query.get("volume_id"),
    )
    return page_reply(call, "transfers", found, page, lambda one: (_detail if is_detail else _summary)(call, one))


async def show_transfer(call: Call) -> Reply:
    """One open offer."""
    return Reply(body={"transfer": _detail(call, await call.services.transfers.get(call.actor, _id(call)))})


async def accept_transfer(call: Call) -> Reply:
    """Take an offered volume."""
    transfer = await call.services.transfers.accept(call.actor, _id(call), str(call.body.accept.auth_key))
    return Reply(body={"transfer": _summary(call, transfer)})


async def delete_transfer(call: Call) -> Reply:
    """Take an offer back."""
    await call.services.transfers.delete(call.actor, _id(call))
    return Reply()


def _id(call: Call) -> str:
    return call.path["transfer_id"]


def _summary(call: Call, transfer: Transfer) -> dict[str, Any]:
    return {
        "id": transfer.id,
        "volume_id": transfer.volume_id,
        "name": transfer.name,
        "links": own_links(call, f"/os-volume-transfer/{transfer.id}"),
    }


def _detail(call: Call, transfer: Transfer) -> dict[str, Any]:
    shown = _summary(call, transfer) | {"created_at": show_time(transfer.created_at)}
    if call.version >= _SNAPSHOTS_SINCE:
        shown["no_snapshots"] = transfer.no_snapshots
    if call.version >= _HISTORY_SINCE:
        # Only open offers are shown, so nobody has accepted them yet.
        shown |= {"source_project_id": transfer.project_id, "destination_project_id": None, "accepted": False}
    return shown
