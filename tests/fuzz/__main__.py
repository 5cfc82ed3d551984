"""`make fuzz`: requests for MINUTES, at several microversions, then every parser with many more examples."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.fuzz.runner import Outcome, Runner
from tests.fuzz.world import open_world

#: Microversions that are taken in turn, beside the newest.
VERSIONS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"compute": "2.1", "volume": "3.0"},
    {"compute": "2.60", "volume": "3.27"},
    {},
    {"compute": "2.89", "volume": "3.44"},
    {"compute": "2.100", "volume": "3.65"},
)
#: Of the whole time, what the parsers get.
PARSERS_SHARE: Final = 0.2
#: What one parser's examples may take; the usual limit of a test is for a few of them.
PARSER_TIMEOUT_S: Final = 1800
PARSERS: Final = "tests/fuzz/test_parsers.py"


def main(minutes: float, seed: int) -> int:
    """Fuzz for so long; 1 when something was found."""
    outcome = Outcome()
    started = time.monotonic()

    def progress(seen: Outcome) -> None:
        passed = time.monotonic() - started
        print(f"{passed:5.0f} s: {seen.requests} requests, {len(seen.findings)} findings", flush=True)

    seconds = minutes * 60 * (1 - PARSERS_SHARE) / len(VERSIONS)
    with open_world() as world:
        for number, versions in enumerate(VERSIONS):
            print(f"microversions {versions or 'newest'}, seed {seed + number}", flush=True)
            Runner(world, outcome, versions, seed + number).run(seconds, progress=progress)
        if "request failed" in world.process.log.read_text():
            outcome.add("the log has a request that failed", world.process.log_tail())
    _show(outcome)
    print(f"every parser, for about {minutes * 60 * PARSERS_SHARE:.0f} s", flush=True)
    environment = {**os.environ, "KEVEL_FUZZ_SECONDS": str(int(minutes * 60 * PARSERS_SHARE))}
    parsers = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--timeout={PARSER_TIMEOUT_S}", PARSERS], env=environment, check=False
    )
    return 1 if outcome.findings or parsers.returncode else 0


def _show(outcome: Outcome) -> None:
    statuses = sorted({status for _, status in outcome.answers})
    table = Table("operation", *map(str, statuses))
    for operation in sorted(outcome.operations):
        table.add_row(operation, *(str(outcome.answers[operation, status] or "") for status in statuses))
    console = Console(width=160)
    console.print(table)
    totals: Counter[int] = Counter()
    for (_, status), count in outcome.answers.items():
        totals[status] += count
    print(", ".join(f"{status}: {totals[status]}" for status in statuses))
    print(
        f"{outcome.requests} requests, {len(outcome.operations)} operations, "
        f"{len(outcome.carried_out)} of them carried out at least once, {len(outcome.findings)} findings"
    )
    for what, text in outcome.findings.items():
        print(f"\nFINDING {what}\n{text}")


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2])))
