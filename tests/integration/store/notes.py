"""A store of either kind with one table of words: what tests of stores themselves need."""

from __future__ import annotations

import asyncio
import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from kevel.store import postgres_store, sqlite
from kevel.store.ballast import Ballast
from kevel.store.batch import Batcher
from kevel.store.postgres import make_postgres_engine
from kevel.store.postgres_batch import PostgresBatcher
from kevel.store.postgres_store import PostgresStore
from kevel.store.postgres_writer import PostgresWriter
from kevel.store.sqlite import SqliteStore, make_engine
from kevel.store.threaded import ThreadedStore
from kevel.store.transactions import Tx
from tests.postgres import Server

Lost = Callable[[BaseException], None]
_WRITERS = itertools.count()


def put(tx: Tx, word: str) -> str:
    """Write a word, and wake somebody for it."""
    tx.execute(text("INSERT INTO notes (word) VALUES (:word)"), {"word": word})
    tx.wake("path", word)
    return word


def words(tx: Tx) -> list[str]:
    """All words, in the order in which they were written."""
    return list(tx.execute(text("SELECT word FROM notes ORDER BY number")).scalars())


class Gate:
    """Holds the writer inside a transaction until it is opened."""

    def __init__(self) -> None:
        self.entered, self._open = threading.Event(), threading.Event()

    def __call__(self, tx: Tx) -> None:
        self.entered.set()
        assert self._open.wait(10)

    async def is_entered(self) -> None:
        """Wait until the writer is inside."""
        assert await asyncio.to_thread(self.entered.wait, 10)

    def open(self) -> None:
        """Let it go."""
        self._open.set()


class Place(ABC):
    """A database with the table, and stores on it."""

    read_threads: int
    batcher: type[Any]
    #: What the database says to whoever writes in a read.
    refusal: str

    @abstractmethod
    def open(self, on_lost: Lost) -> ThreadedStore:
        """A store on it; call it on the event loop."""

    @abstractmethod
    def look(self) -> list[str]:
        """The words that another connection sees: only what is committed."""


class SqlitePlace(Place):
    read_threads = sqlite.READ_THREADS
    batcher = Batcher
    refusal = "readonly"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.engine = make_engine(directory / "kevel.db")
        with self.engine.connect() as conn:
            conn.exec_driver_sql("CREATE TABLE notes (number INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE)")

    def open(self, on_lost: Lost) -> ThreadedStore:
        return SqliteStore(self.engine, Ballast(self._directory / "ballast"), on_lost)

    def look(self) -> list[str]:
        return _look(self.engine)


class PostgresPlace(Place):
    read_threads = postgres_store.READ_THREADS
    batcher = PostgresBatcher
    refusal = "read-only transaction"

    def __init__(self, server: Server, database: str) -> None:
        self.server = server
        self.database = database
        self.engine = make_postgres_engine(server.url(database), "kevel of a test")
        server.execute(database, "CREATE TABLE notes (number BIGSERIAL PRIMARY KEY, word TEXT NOT NULL UNIQUE)")

    def writer(self) -> PostgresWriter:
        """A writing session that has taken the database over."""
        engine = make_postgres_engine(self.server.url(self.database), "kevel of a test")
        writer = PostgresWriter(engine, f"writer-{next(_WRITERS)}")
        writer.lock()
        writer.claim()
        return writer

    def open(self, on_lost: Lost) -> PostgresStore:
        return PostgresStore(self.engine, self.writer(), on_lost)

    def look(self) -> list[str]:
        return _look(self.engine)


def _look(engine: Engine) -> list[str]:
    with engine.connect() as conn:
        return list(conn.execute(text("SELECT word FROM notes ORDER BY number")).scalars())
