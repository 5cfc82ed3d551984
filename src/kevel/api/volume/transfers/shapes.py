"""What transfers take and answer."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from kevel.api.answers import Answer, Link, name_answer, name_list
from kevel.api.volume.bodies import Bool, Text


class TransferFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An offer as it is made."""

    volume_id: Text
    name: Text | None = None


class TransferFieldsV355(TransferFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same, with a word about the volume's snapshots."""

    no_snapshots: Bool | None = None


class CreateTransfer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /os-volume-transfer."""

    transfer: TransferFields


class CreateTransferV355(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /volume-transfers."""

    transfer: TransferFieldsV355


class AuthKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The offer's key."""

    auth_key: Text | int


class AcceptTransfer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST .../accept."""

    accept: AuthKey


class TransferSummary(Answer, kw_only=True):
    """A line of the short list."""

    id: str
    volume_id: str
    name: str | None
    links: list[Link]


class Transfer(TransferSummary, kw_only=True):
    """An open offer. `no_snapshots` came with 3.55, who gives to whom with 3.57."""

    created_at: str
    no_snapshots: bool | UnsetType = UNSET
    source_project_id: str | UnsetType = UNSET
    destination_project_id: UnsetType | None = UNSET
    accepted: bool | UnsetType = UNSET


class NewTransfer(Transfer, kw_only=True):
    """An offer with its key, which is told here only."""

    auth_key: str


TRANSFERS: Final = name_list("transfers", TransferSummary)
TRANSFER_DETAILS: Final = name_list("transfers", Transfer)
TRANSFER: Final = name_answer("transfer", Transfer)
NEW_TRANSFER: Final = name_answer("transfer", NewTransfer)
TRANSFER_SUMMARY: Final = name_answer("transfer", TransferSummary)
