"""Runs the real `openstack` command again and again in one process: importing it takes longer than most commands.

Each line on standard input is the JSON list of a command's words; each answer is a JSON line with its exit code and
what it wrote.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout

from openstackclient.shell import OpenStackShell


def main() -> None:
    """Carry out commands until there are no more."""
    answers = sys.stdout
    for line in sys.stdin:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = OpenStackShell().run(json.loads(line))
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
        answers.write(json.dumps({"code": code, "out": out.getvalue(), "err": err.getvalue()}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
