"""Types of groups: the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, bindparam, func, insert, select, update

from kevel.store.groups import IS_THERE
from kevel.store.pages import Listed, Page, list_page
from kevel.store.schema.groups import group_types, groups
from kevel.store.transactions import Tx, as_struct, row_columns


class GroupType(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of group that users choose by name."""

    id: str
    name: str
    description: str | None
    is_public: bool
    group_specs: dict[str, str]
    created_at: int
    updated_at: int | None


#: What a list can be sorted by, under Cinder's names.
SORT_COLUMNS: Final[Mapping[str, ColumnElement[Any]]] = {
    "id": group_types.c.id,
    "name": group_types.c.name,
    "description": func.coalesce(group_types.c.description, ""),
    "is_public": group_types.c.is_public,
    "created_at": group_types.c.created_at,
    "updated_at": func.coalesce(group_types.c.updated_at, 0),
}

_LIVE = select(*row_columns(group_types, GroupType)).where(group_types.c.deleted_at.is_(None))
_BY_ID = _LIVE.where(group_types.c.id == bindparam("of_id"))
_BY_NAME = _LIVE.where(group_types.c.name == bindparam("of_name"))
_SOME = _LIVE.where(group_types.c.id.in_(bindparam("of_ids", expanding=True)))
_INSERT = insert(group_types)
_USED = select(groups.c.id).where(groups.c.group_type_id == bindparam("of_type"), IS_THERE).limit(1)


def load_group_type(tx: Tx, type_id: str) -> GroupType | None:
    """The type of that id."""
    row = tx.execute(_BY_ID, {"of_id": type_id}).first()
    return None if row is None else as_struct(GroupType, row)


def load_group_type_named(tx: Tx, name: str) -> GroupType | None:
    """The type of that name."""
    row = tx.execute(_BY_NAME, {"of_name": name}).first()
    return None if row is None else as_struct(GroupType, row)


def list_group_types(tx: Tx, page: Page, *, is_public: bool | None) -> Listed[GroupType]:
    """One page of the types; `is_public` None: of all."""
    ids = select(group_types.c.id).where(group_types.c.deleted_at.is_(None))
    if is_public is not None:
        ids = ids.where(group_types.c.is_public.is_(is_public))
    return list_page(tx, ids, page, SORT_COLUMNS, _load_some)


def _load_some(tx: Tx, ids: Sequence[str]) -> list[GroupType]:
    found = {row.id: as_struct(GroupType, row) for row in tx.execute(_SOME, {"of_ids": list(ids)})}
    return [found[type_id] for type_id in ids]


def insert_group_type(tx: Tx, group_type: GroupType) -> None:
    """Enter a new type. Raises IntegrityError (one_group_type_of_that_name) when the name is taken."""
    tx.execute(_INSERT, msgspec.structs.asdict(group_type))


def change_group_type(tx: Tx, type_id: str, **changes: Any) -> None:
    """Write columns of the type's row; `deleted_at` among them deletes it."""
    tx.execute(update(group_types).where(group_types.c.id == type_id).values(**changes))


def is_group_type_used(tx: Tx, type_id: str) -> bool:
    """Is there a group of that type?"""
    return tx.execute(_USED, {"of_type": type_id}).first() is not None
