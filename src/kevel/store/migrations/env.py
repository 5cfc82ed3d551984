"""Alembic's entry: runs on the connection that `kevel.store.migrate` (or `scripts/make_migration.py`) hands over."""

from alembic import context

from kevel.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=False,
)
with context.begin_transaction():
    context.run_migrations()
