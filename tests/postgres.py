"""A PostgreSQL server of a test run's own: on a socket in a directory of its own, started once, stopped by its pid."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from sqlalchemy import URL

from kevel.store.migrate import upgrade_schema
from kevel.store.postgres import make_postgres_engine, parse_url

#: A database with Kevel's tables, that others are copied from.
TEMPLATE: Final = "kevel_template"
#: What makes a server quick that nobody will miss.
_OPTIONS: Final = ("fsync=off", "full_page_writes=off", "max_connections=60", "shared_buffers=32MB", "autovacuum=off")
_CREATE: Final = "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY"


def find_programs() -> Path:
    """The directory of PostgreSQL's programs. Debian keeps them off PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    here = shutil.which("initdb")
    assert here is not None, "PostgreSQL is not installed; `make setup` installs it"
    return Path(here).parent


class Server:
    """One server. Programs run as the user `postgres` where the tests run as root, whom PostgreSQL refuses."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self._programs = find_programs()
        self._as_user: dict[str, Any] = {}
        self._numbers = itertools.count()
        self._watcher: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(directory, user.pw_uid, user.pw_gid)
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def make(self) -> None:
        """Initialise it, start it, and make the template."""
        command = [self._programs / "initdb", "-D", self.data, "-A", "trust", "-U", "kevel", "--no-sync", "-E", "UTF8"]
        self._run([*command, "--locale=C", "--no-instructions"])
        self.start()
        self.execute("postgres", _CREATE.format(TEMPLATE, "template0"))
        engine = make_postgres_engine(self.url(TEMPLATE))
        upgrade_schema(engine)
        engine.dispose()

    def start(self, *options: str) -> None:
        """Start it; when this returns, it answers."""
        settings = [f"-c {option}" for option in (*_OPTIONS, *options)]
        given = f"-c listen_addresses= -c unix_socket_directories={self.directory} " + " ".join(settings)
        log = self.directory / "log"
        self._run([self._programs / "pg_ctl", "-D", self.data, "-w", "-s", "-l", log, "-o", given, "start"])

    def watch(self) -> None:
        """Have the server end with this process, however that ends: the pipe to the watcher closes with it."""
        ending = f"read -r _; '{self._programs}/pg_ctl' -D '{self.data}' -s -m immediate stop; rm -rf '{self.data}'"
        self._watcher = subprocess.Popen(
            ["sh", "-c", ending],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            **self._as_user,
        )

    def end(self) -> None:
        """Stop it for good, and with it the watcher."""
        if self._watcher is not None:
            assert self._watcher.stdin is not None
            self._watcher.stdin.close()
            self._watcher.wait(60)
        elif (self.data / "postmaster.pid").exists():
            self.stop()

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; "immediate" is a crash."""
        self._run([self._programs / "pg_ctl", "-D", self.data, "-w", "-s", "-m", mode, "stop"])

    def kill(self) -> None:
        """Kill it at once, and wait until it is gone. It recovers at the next start."""
        pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        self._run([self._programs / "pg_ctl", "-D", self.data, "-w", "-s", "-m", "immediate", "stop"], check=False)

    def _run(self, command: list[Any], *, check: bool = True) -> None:
        done = subprocess.run(
            [str(part) for part in command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd="/",
            timeout=60,
            **self._as_user,
        )
        assert not check or done.returncode == 0, f"{command[0]}: {done.stderr}"

    def url(self, database: str, **query: str) -> URL:
        """Where the database is."""
        return parse_url(self.name(database)).update_query_dict(query)

    def name(self, database: str) -> str:
        """The same as a user writes it."""
        return f"postgresql://kevel@/{database}?host={self.directory}"

    def execute(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement from outside; what it finds."""
        with psycopg.connect(f"host={self.directory} user=kevel dbname={database}", autocommit=True) as conn:
            cursor = conn.execute(statement)
            return cursor.fetchall() if cursor.description is not None else []

    @contextmanager
    def database(self, template: str = TEMPLATE) -> Iterator[str]:
        """The name of a new database, dropped in the end: a copy of the template, which has Kevel's tables."""
        name = f"test_{next(self._numbers)}"
        self.execute("postgres", _CREATE.format(name, template))
        try:
            yield name
        finally:
            self.execute("postgres", f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def running_server() -> Iterator[Server]:
    """A server for a while. Its directory lies in memory where there is room for that."""
    memory = Path("/dev/shm")
    where = str(memory) if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="kevel-pg-", dir=where) as directory:
        server = Server(Path(directory))
        try:
            server.make()
            server.watch()
            yield server
        finally:
            server.end()
