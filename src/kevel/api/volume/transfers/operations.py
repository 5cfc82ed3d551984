"""The rows of transfers, under both of Cinder's addresses."""

from __future__ import annotations

from typing import Any, Final

from kevel.api.operations import Operation, Version
from kevel.api.volume.rows import PAGE_QUERY, read, write
from kevel.api.volume.transfers import handlers, shapes

_QUERY: Final = (*PAGE_QUERY, "all_tenants", "project_id", "name", "display_name", "volume_id")


def _rows(place: str, prefix: str, body: Any, since: Version | None) -> tuple[Operation, ...]:
    one = f"{place}/{{transfer_id}}"
    return (
        write(
            name=f"create{prefix}Transfer",
            reply=shapes.NEW_TRANSFER,
            needs_space=True,
            new_id="/transfer/id",
            method="POST",
            path=place,
            handler=handlers.create_transfer,
            success=202,
            errors=(400, 404),
            body=body,
            since=since,
        ),
        read(
            name=f"list{prefix}Transfers",
            reply=shapes.TRANSFERS,
            query_names=_QUERY,
            path=place,
            handler=handlers.list_transfers,
            errors=(400, 404),
            since=since,
        ),
        read(
            name=f"list{prefix}TransferDetails",
            reply=shapes.TRANSFER_DETAILS,
            query_names=_QUERY,
            path=f"{place}/detail",
            handler=handlers.list_details,
            errors=(400, 404),
            since=since,
        ),
        read(
            name=f"show{prefix}Transfer",
            reply=shapes.TRANSFER,
            path=one,
            handler=handlers.show_transfer,
            errors=(404,),
            since=since,
        ),
        write(
            name=f"accept{prefix}Transfer",
            reply=shapes.TRANSFER_SUMMARY,
            method="POST",
            path=f"{one}/accept",
            handler=handlers.accept_transfer,
            success=202,
            errors=(400, 404, 413),
            body=shapes.AcceptTransfer,
            since=since,
        ),
        write(
            name=f"delete{prefix}Transfer",
            reply=None,
            method="DELETE",
            path=one,
            handler=handlers.delete_transfer,
            success=202,
            errors=(404,),
            since=since,
        ),
    )


TRANSFERS: Final = (
    *_rows("/os-volume-transfer", "", shapes.CreateTransfer, None),
    *_rows("/volume-transfers", "Volume", shapes.CreateTransferV355, Version(3, 55)),
)
