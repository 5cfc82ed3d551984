"""`kevel up` as a process of its own, for the demo, the tests and the benchmarks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kevel.cli.client import ApiClient, Cloud
from kevel.domain.errors import KevelError

START_TIMEOUT_S: Final = 60.0


class KevelProcess:
    """`kevel up` as a process of its own."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.log = data.with_suffix(".log")
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self._client: ApiClient | None = None
        self._listen = "127.0.0.1:0"

    def start(self, environment: Mapping[str, str] | None = None) -> Cloud:
        """Start it, with more in its environment if asked, wait until it says where it listens, log in.

        Raises KevelError when it ends instead; `kill` or `stop` must be called all the same.
        """
        command = [sys.executable, "-m", "kevel.cli.main", "up", "--data", str(self.data), "--listen", self._listen]
        command += self._options
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **(environment or {})}
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if " listens on " not in line:
            raise KevelError(f"Kevel did not start; its log: {self.log_tail()}")
        url = line.split(" listens on ")[1].split()[0]
        self._listen = url.removeprefix("http://")
        password = (self.data / "admin-password").read_text().strip()
        self._client = ApiClient(url, username="admin", password=password, project="admin")
        return Cloud(self._client)

    @property
    def pid(self) -> int | None:
        """Its process id; None when it has not been started, or has been ended."""
        return None if self._process is None else self._process.pid

    def wait_end(self, timeout_s: float) -> int | None:
        """How it ended by itself (minus the number of a signal); None when it has not, after `timeout_s`."""
        assert self._process is not None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """SIGKILL: no goodbye, nothing cleaned up."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(START_TIMEOUT_S)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def log_tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


def processes_of(data: Path) -> list[int]:
    """Processes whose command line names the data directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if str(data).encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found
