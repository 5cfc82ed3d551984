"""For all tests: log in plain lines, as Kevel does. The default renderer takes a second to paint one traceback.

What the tests were answered is written to the file that KEVEL_ANSWERED names: see `tests/answered.py`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import structlog

from tests.answers import answered

structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
    ]
)


def pytest_sessionfinish() -> None:
    """Leave what the APIs answered to the tests of this run."""
    name, found = os.environ.get("KEVEL_ANSWERED"), list(answered())
    if name and found:  # the run with guests has no API in its own process
        Path(name).write_text(json.dumps(found), encoding="utf-8")
