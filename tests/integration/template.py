"""A database at the newest schema, migrated once for each run: to migrate one for each test took most of the time."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from kevel.store.migrate import upgrade_schema
from kevel.store.sqlite import make_engine


def put_database(path: Path) -> None:
    """Put an empty database with Kevel's tables there; one that is there already stays as it is."""
    if not path.exists():
        path.write_bytes(_migrate())


@cache
def _migrate() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "kevel.db"
        engine = make_engine(path)
        upgrade_schema(engine)
        engine.dispose()
        return path.read_bytes()
