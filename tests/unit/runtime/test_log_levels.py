"""What a process logs, and that it changes its mind while it runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kevel.runtime.log_levels import LogLevels

SCRIPT = """
import logging, structlog
from kevel.runtime.log_levels import LogLevels, set_up_logging
set_up_logging("warning")
early = structlog.get_logger("kevel.store.early")
early.info("one", secret=1)
early.warning("two", where="here")
LogLevels().set("kevel.store", "info")
early.info("three")
structlog.get_logger("kevel.control.other").info("four")
LogLevels().set("", "ERROR")
early.warning("five")
try:
    raise ValueError("cause")
except ValueError:
    early.exception("six")
logging.getLogger("uvicorn").warning("seven")
print(LogLevels().show("kevel.store")["kevel.store.early"])
"""


def test_a_process_logs_pairs_to_stderr_from_the_level_on_that_holds_now() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "ERROR\n"
    lines = done.stderr.splitlines()
    events = [line for line in lines if "event=" in line or line.startswith("WARNING")]
    assert ["event='two'" in events[0], "event='three'" in events[1], "event='six'" in events[2]] == [True] * 3
    assert (events[3], len(events)) == ("WARNING uvicorn: seven", 4)
    assert events[0].startswith("timestamp=")
    assert "level='warning'" in events[0]
    assert "where='here'" in events[0]
    assert "ValueError: cause" in done.stderr


def test_a_word_that_is_no_level_changes_nothing() -> None:
    before = LogLevels().show("")
    with pytest.raises(KeyError):
        LogLevels().set("", "loud")
    assert LogLevels().show("") == before
