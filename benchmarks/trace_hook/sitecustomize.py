"""Python runs this at its start when this folder is on PYTHONPATH: calls of Kevel's own functions go to a file.

Kevel's process and libvirt's child process are traced alike, and nothing in Kevel knows of it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from types import FrameType
from typing import Any

_PATH = os.environ.get("KEVEL_TRACE_FILE")
_FOLDER = os.environ.get("KEVEL_TRACE_FOLDER", "")


def _install(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_FOLDER):
            line = f"{time.monotonic_ns()} {os.getpid()} {code.co_filename} {code.co_qualname}\n"
            os.write(fd, line.encode())

    threading.setprofile(note)
    sys.setprofile(note)


if _PATH:
    _install(_PATH)
