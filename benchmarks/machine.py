"""The machine under the figures, and what a process has used of it."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import time
from pathlib import Path

PACE_STEPS = 1_000_000
#: How Linux makes a clock's id from a process id (clock_getcpuclockid(3)).
_CPU_CLOCK_OF_PROCESS = 2


def cpu_s(pid: int) -> float:
    """CPU time that the process has used, all of its threads and none of its children.

    From the scheduler's own clock: the figures in /proc are counted in ticks, which wrongs whoever wakes up by timers.
    """
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK_OF_PROCESS)


def resident_mib(pid: int) -> float:
    """Memory that the process holds now."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def describe_machine() -> dict[str, str]:
    """What a reader needs to judge the figures by."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.*)$", info, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "processor": f"{os.cpu_count()} x {model[1] if model else platform.machine()}",
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load before": f"{os.getloadavg()[0]:.1f}",
        "pace": f"{measure_pace():.0f} ms",
    }


def measure_pace() -> float:
    """Milliseconds of CPU for a fixed piece of Python: virtual machines are not equally quick at all times."""
    started = time.process_time()
    total = 0
    for number in range(PACE_STEPS):
        total += number * number % 7
    return (time.process_time() - started) * 1e3
