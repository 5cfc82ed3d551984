"""A Kevel to measure: its process, a data directory that goes away afterwards, and the servers in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kevel.cli.client import Cloud
from kevel.cli.process import KevelProcess, processes_of

BOOT_TIMEOUT_S: Final = 120.0
VOLUME_TIMEOUT_S: Final = 30.0
END_TIMEOUT_S: Final = 10.0
#: Space is not what is measured.
_CONFIG: Final = "[limits]\novercommit_ratio = 1000000.0\n"


@contextlib.contextmanager
def temporary_kevel(hypervisor: str) -> Iterator[KevelProcess]:
    """A Kevel that is not started yet; everything of it is gone afterwards, guests included."""
    base = Path(tempfile.mkdtemp(prefix="kevel-bench-"))
    config = base / "kevel.toml"
    config.write_text(_CONFIG)
    process = KevelProcess(base / "data", "--hypervisor", hypervisor, "--config", str(config))
    try:
        yield process
    finally:
        process.stop()
        end_processes(process.data)
        shutil.rmtree(base, ignore_errors=True)


def end_processes(data: Path) -> None:
    """End what still belongs to the data directory (guests outlive Kevel), and wait until it has ended."""
    deadline = time.monotonic() + END_TIMEOUT_S
    while (left := processes_of(data)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def boot_server(cloud: Cloud, name: str) -> str:
    """A running server of the tiny image; its id."""
    server_id = cloud.create_server(name, image="tiny", flavor="tiny")
    cloud.wait_server(server_id, "ACTIVE", BOOT_TIMEOUT_S)
    return server_id
