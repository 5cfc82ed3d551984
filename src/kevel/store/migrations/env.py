"""Alembic's entry: runs on the connection that `kevel.store.migrate` (or `scripts/make_migration.py`) hands over."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy.types import TypeDecorator

from kevel.store.schema import metadata


def render_type(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Our column types as what they are in the database: a migration must not change when our code does."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl_instance!r}"
    return False


attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    target_metadata=metadata,
    # SQLite alters a table by copying it; a first migration makes tables only.
    render_as_batch=attributes.get("batch", True),
    compare_type=False,
    render_item=render_type,
)
with context.begin_transaction():
    context.run_migrations()
