"""For all tests: log in plain lines, as Kevel does. The default renderer takes a second to paint one traceback.

What the tests were answered is written to the file that KEVEL_ANSWERED names: see `tests/answered.py`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest
import structlog

from tests.answers import answered, note_answered

#: What takes long, the longest first.
SLOW: Final = (
    "tests/sweep/",
    "tests/torture/",
    "tests/system/libvirt/",
    "tests/system/up/",
    "tests/tempest/",
    "tests/fuzz/",
    "tests/crowd/",
    "tests/planted/",
)

structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
    ]
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow ones first: where several processes share the tests, none has a long one left at the end."""
    items.sort(key=lambda item: next((at for at, name in enumerate(SLOW) if item.nodeid.startswith(name)), len(SLOW)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave what the APIs answered to the tests of this run; a worker hands it to the process that started it."""
    found = list(answered())
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["answered"] = found
    elif name := os.environ.get("KEVEL_ANSWERED"):
        Path(name).write_text(json.dumps(found), encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what the tests of a worker were answered; one that died has left nothing."""
    note_answered(getattr(node, "workeroutput", {}).get("answered", ()))
