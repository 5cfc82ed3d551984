"""A `kevel up` in a process of its own, in a directory whose path is short enough for unix sockets."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kevel.cli.process import KevelProcess, processes_of


@pytest.fixture
def data() -> Iterator[Path]:
    """An empty data directory; whatever process still uses it afterwards is killed."""
    root = Path(tempfile.mkdtemp(prefix="kv-"))
    yield root
    for pid in processes_of(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(root, ignore_errors=True)
    root.with_suffix(".log").unlink(missing_ok=True)


@pytest.fixture
def kevel(data: Path) -> Iterator[Callable[..., KevelProcess]]:
    """Makes processes on the data directory; they are killed at the end."""
    made: list[KevelProcess] = []

    def make(*options: str) -> KevelProcess:
        made.append(KevelProcess(data, *options))
        return made[-1]

    yield make
    for process in made:
        process.kill()
