"""The demo: two real guests, one volume, and a Kevel that is killed in the middle of an attach."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from kevel.cli.client import Cloud
from kevel.cli.console import ConsoleError, GuestConsole
from kevel.cli.process import KevelProcess, processes_of
from kevel.cli.timeline import timeline_table
from kevel.domain.errors import KevelError

#: Detaches right behind an attach.
QUICK_ROUNDS: Final = 20
#: How often the kill is tried again when the attach was quicker than it.
KILLS_MAX: Final = 5
BOOT_TIMEOUT_S: Final = 120.0
STEP_TIMEOUT_S: Final = 60.0
GUEST_LOOK_S: Final = 0.1


class Demo:
    """The steps. Each prints what it is about to do and what it saw."""

    def __init__(self, screen: Console, data: Path) -> None:
        self._screen = screen
        self._data = data
        self._process = KevelProcess(data)
        self._cloud: Cloud | None = None
        self.servers: dict[str, str] = {}
        self._volume = ""

    @property
    def cloud(self) -> Cloud:
        """The running Kevel."""
        if self._cloud is None:
            raise KevelError("Kevel does not run.")
        return self._cloud

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show progress while the step runs, and how long it took."""
        started = time.monotonic()
        with self._screen.status(f"{title} ..."):
            yield
        self._screen.print(f"[green]ok[/green]   {title}  [dim]{time.monotonic() - started:.1f} s[/dim]")

    def say(self, text: str) -> None:
        """One line below a step."""
        self._screen.print(f"     {text}", highlight=False, soft_wrap=True)

    def run(self) -> None:
        """All steps in order."""
        with self.step("start Kevel"):
            self._cloud = self._process.start()
        with self.step("boot two real QEMU guests, A and B"):
            self.boot_guests()
        with self.step("create a volume of 1 GiB, attach it to A, look inside A"):
            self._volume = self.cloud.create_volume("demo", 1, STEP_TIMEOUT_S)
            name = self.attach_and_find("A")
            self.say(f"A sees /dev/{name} with serial {self._volume}: the volume's id")
        stamp = f"kevel {secrets.token_hex(8)}"
        with self.step("write a stamp from inside A, detach, attach to B, read it inside B"):
            self.carry_stamp(name, stamp)
        with self.step(f"detach right behind an attach, {QUICK_ROUNDS} times"):
            self.detach_behind_attach()
        with self.step("kill -9 the whole of Kevel in the middle of an attach, start it again"):
            self.kill_in_attach()
        self.print_timelines()
        with self.step("delete everything, stop Kevel, look for leftovers"):
            self.clean_up()

    def boot_guests(self) -> None:
        for name in ("A", "B"):
            self.servers[name] = self.cloud.create_server(name, image="tiny", flavor="tiny")
        for name, server_id in self.servers.items():
            self.cloud.wait_server(server_id, "ACTIVE", BOOT_TIMEOUT_S)
            with self.console(name) as console:
                console.wait_ready(BOOT_TIMEOUT_S)

    def console(self, name: str) -> GuestConsole:
        return GuestConsole(self._data / "servers" / self.servers[name] / "console.sock")

    def attach_and_find(self, name: str) -> str:
        self.cloud.attach(self.servers[name], self._volume)
        self.cloud.wait_volume(self._volume, "in-use", STEP_TIMEOUT_S)
        return self.find_disk(name)

    def find_disk(self, name: str) -> str:
        """The guest's own name of the disk whose serial is the volume's id."""
        deadline = time.monotonic() + STEP_TIMEOUT_S
        with self.console(name) as console:
            while time.monotonic() < deadline:
                for line in console.run("disks").output.splitlines():
                    words = line.split()
                    if len(words) == 3 and words[2] == self._volume:
                        return words[0]
                time.sleep(GUEST_LOOK_S)
        raise KevelError(f"Guest {name} does not see a disk with serial {self._volume}.")

    def detach(self, name: str) -> None:
        self.cloud.detach(self.servers[name], self._volume)
        self.cloud.wait_volume(self._volume, "available", STEP_TIMEOUT_S)

    def carry_stamp(self, disk: str, stamp: str) -> None:
        with self.console("A") as console:
            written = console.run(f"echo '{stamp}' | dd of=/dev/{disk} conv=fsync 2>&1")
        if written.code != 0:
            raise KevelError(f"A could not write to its disk: {written.output}")
        self.detach("A")
        disk = self.attach_and_find("B")
        with self.console("B") as console:
            read = console.run(f"dd if=/dev/{disk} bs=512 count=1 2>/dev/null | head -n 1").output.strip("\0\n")
        if read != stamp:
            raise KevelError(f"B read {read!r}, but A wrote {stamp!r}.")
        self.say(f"A wrote {stamp!r}; B read {read!r}")
        self.detach("B")

    def detach_behind_attach(self) -> None:
        started = time.monotonic()
        for _ in range(QUICK_ROUNDS):
            self.cloud.attach(self.servers["A"], self._volume)
            self.detach("A")
        each_ms = (time.monotonic() - started) / QUICK_ROUNDS * 1000
        self.say(f"{QUICK_ROUNDS} of {QUICK_ROUNDS} times the volume was available again, after {each_ms:.0f} ms each")

    def kill_in_attach(self) -> None:
        for _ in range(KILLS_MAX):
            self.cloud.attach(self.servers["A"], self._volume)
            self._process.kill()
            killed_us = time.time_ns() // 1000
            self._cloud = self._process.start()
            self.cloud.wait_volume(self._volume, "in-use", STEP_TIMEOUT_S)
            disk = self.find_disk("A")
            newest = self.cloud.histories(self.servers["A"])[-1]
            plugged = [one for one in self.cloud.journal(newest["id"]) if one["after"] == "plugged"]
            if plugged and plugged[-1]["at"] > killed_us:
                late_ms = (plugged[-1]["at"] - killed_us) / 1000
                self.say(f"the attach finished by itself, {late_ms:.0f} ms after the kill; A sees /dev/{disk}")
                self.detach("A")
                return
            self.detach("A")
        raise KevelError(f"The attach was done before the kill, {KILLS_MAX} times; this machine is too quick for it.")

    def print_timelines(self) -> None:
        """Every attachment's timeline; the quick rounds look alike, so only the first of them is printed whole."""
        histories = [one for server_id in self.servers.values() for one in self.cloud.histories(server_id)]
        histories.sort(key=lambda one: one["created_at"])
        for number, history in enumerate(histories):
            if 3 <= number < len(histories) - 1:
                self.say(self.one_line(history))
            else:
                self._screen.print(timeline_table(history, self.cloud.journal(history["id"])))

    def one_line(self, history: dict[str, Any]) -> str:
        journal = self.cloud.journal(history["id"])
        start = journal[0]["at"]
        rungs = [f"{one['after']} {(one['at'] - start) / 1000:.0f} ms" for one in journal if one["what"] == "rung"]
        return f"[dim]attachment {history['id'][:8]}: {', '.join(rungs)}[/dim]"

    def clean_up(self) -> None:
        for server_id in self.servers.values():
            self.cloud.delete_server(server_id, STEP_TIMEOUT_S)
        self.servers.clear()
        self.cloud.delete_volume(self._volume)
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while any((self._data / "volumes").glob("volume-*")) and time.monotonic() < deadline:
            time.sleep(GUEST_LOOK_S)
        self._process.stop()
        left = [str(path) for path in (self._data / "volumes").iterdir()]
        left += [str(path) for path in (self._data / "servers").iterdir()]
        left += [f"process {pid}" for pid in processes_of(self._data)]
        if left:
            raise KevelError(f"Left over: {', '.join(left)}.")
        self.say("no guest, no file, no process is left")

    def abandon(self) -> None:
        """After a failure: end every process that belongs to the demo."""
        self._screen.print(f"[red]failed[/red]; Kevel's log ends with:\n{self._process.log_tail()}", highlight=False)
        self._process.kill()
        for pid in processes_of(self._data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def main() -> int:
    """Run the demo; 0 when every step did what it says."""
    screen = Console()
    started = time.monotonic()
    data = Path(tempfile.mkdtemp(prefix="kevel-demo-"))
    demo = Demo(screen, data)
    try:
        demo.run()
    except (KevelError, ConsoleError, subprocess.SubprocessError, OSError) as error:
        screen.print(f"[red]{error}[/red]", highlight=False)
        demo.abandon()
        return 1
    except KeyboardInterrupt:
        demo.abandon()
        return 130
    finally:
        shutil.rmtree(data, ignore_errors=True)
        data.with_suffix(".log").unlink(missing_ok=True)
    screen.print(f"[bold]All of it worked[/bold], in {time.monotonic() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
