"""The real `openstack` command for tests, in one process for all commands of a test: see `tests/openstack_loop.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
END_S: Final = 10.0
#: How long what a command has begun may take.
READY_S: Final = 60.0
LOOK_AGAIN_S: Final = 0.1


class CommandFailed(Exception):
    """The command ended with an error; its text."""


class Openstack:
    """Runs the command with these credentials, and with nothing of the tester's own clouds, until `close`."""

    def __init__(self, credentials: Mapping[str, str]) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        self.environment = {**kept, "OS_CLIENT_CONFIG_FILE": "/nonexistent", **credentials}
        self._process: subprocess.Popen[str] | None = None
        #: Subcommands that have run, as their entry points are called.
        self.ran: set[str] = set()

    def note(self, words: Sequence[str]) -> None:
        """The words `volume type set ...` are the entry point volume_type_set; options come after the name."""
        name = words[: next((at for at, word in enumerate(words) if word.startswith("-")), len(words))]
        self.ran |= {"_".join(name[:length]).replace("-", "_") for length in range(2, len(name) + 1)}

    def run(self, *words: str) -> str:
        """What the command printed; raises CommandFailed with what it said."""
        self.note(words)
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.openstack_loop"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=ROOT,
                env=self.environment,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if answer["code"] != 0:
            raise CommandFailed(answer["err"])
        return str(answer["out"])

    def json(self, *words: str) -> Any:
        """The same, as JSON."""
        return json.loads(self.run(*words, "-f", "json"))

    def refused(self, *words: str) -> str:
        """What a command said that has to fail."""
        try:
            out = self.run(*words)
        except CommandFailed as error:
            return str(error)
        raise AssertionError(f"openstack {' '.join(words)} succeeded: {out}")

    def wait_status(self, *words: str, status: str) -> dict[str, Any]:
        """Show until it has the status."""
        deadline = time.monotonic() + READY_S
        while (shown := {name.lower(): value for name, value in self.json(*words).items()})["status"] != status:
            assert time.monotonic() < deadline, f"{' '.join(words)}: {shown}"
            time.sleep(LOOK_AGAIN_S)
        return shown

    def wait_gone(self, *words: str) -> None:
        """Show until it is not there."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                shown = self.run(*words)
            except CommandFailed:
                return
            assert time.monotonic() < deadline, f"{' '.join(words)}: {shown}"
            time.sleep(LOOK_AGAIN_S)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            self._process.wait(END_S)
            self._process.stdout.close()


def read_openrc(data: Path) -> dict[str, str]:
    """The credentials that `kevel up` wrote."""
    lines = [line.removeprefix("export ").partition("=") for line in (data / "openrc").read_text().splitlines()]
    return {name: value.strip("'") for name, _, value in lines}
