"""Which test has seen each operation of the tables succeed, fail as its row says, and stay shut to another project.

`python -m tests.answered FILE` reads what a run of the tests left (KEVEL_ANSWERED) and says what no test has seen;
`--write` puts the table of the block storage API into docs/compatibility.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kevel.api.app import APIS
from kevel.api.operations import DOCUMENT_PATH, Api, Operation, Policy

RECORD: Final = Path(__file__).parents[1] / "docs" / "compatibility.md"
BEGIN: Final = "<!-- operations: written by python -m tests.answered -->"
END: Final = "<!-- end of operations -->"

#: Successes that are declared and never happen: a volume is not exchanged for another, and no deleted server is kept.
NEVER: Final = frozenset({("compute", "swapVolume", 202), ("compute", "restoreServer", 202)})

Seen = dict[tuple[str, str], dict[int, list[str]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Say what is missing; exit code 1 if anything is."""
    parser = argparse.ArgumentParser(prog="python -m tests.answered", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--write", action="store_true", help="write the table to docs/compatibility.md")
    wanted = parser.parse_args(arguments)
    seen: Seen = defaultdict(dict)
    for line in json.loads(wanted.file.read_text(encoding="utf-8")):
        seen[line["api"], line["operation"]][line["status"]] = line["tests"]
    missing = [
        f"{api.name} {row.name}: {status}"
        for api in APIS
        for row in api.operations
        for status in find_missing(row, seen[api.name, row.name])
        if (api.name, row.name, status) not in NEVER
    ]
    for line in missing:
        sys.stdout.write(f"no test has seen {line}\n")
    if wanted.write:
        write_table(next(api for api in APIS if api.name == "volume"), seen)
    return 1 if missing else 0


def find_missing(row: Operation, seen: dict[int, list[str]]) -> list[int]:
    """The statuses in the row that no test has seen; a 403 too, where an admin is needed.

    What is answered for other reasons than the row's own (401, 406, 415, ...) is the dispatcher's, and tested once.
    """
    wanted = {row.success, *row.errors}
    if row.policy in (Policy.ADMIN, Policy.SERVICE):
        wanted.add(403)
    return sorted(wanted - set(seen))


def write_table(api: Api, seen: Seen) -> None:
    """Replace the table in the document."""
    lines = ["| operation | request | microversions | answers seen by tests |", "|---|---|---|---|"]
    for row in api.operations:
        if row.path.startswith("/@") or row.path == DOCUMENT_PATH:
            continue
        request = f"{row.method} {row.path}" + (f", `{row.action}`" if row.action else "")
        answers = ", ".join(str(status) for status in sorted(seen[api.name, row.name]))
        lines.append(f"| {row.name} | {request} | {_tell_versions(api, row)} | {answers} |")
    text = RECORD.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    table = "\n".join(lines)
    RECORD.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def _tell_versions(api: Api, row: Operation) -> str:
    lowest, highest = api.versions or (None, None)
    return f"{row.since or lowest} to {row.until or highest}"


if __name__ == "__main__":
    sys.exit(main())
