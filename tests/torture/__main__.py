"""Torture Kevel with real guests from the command line: `make torture KILLS=1000`.

    python -m tests.torture [--kills N] [--seed N] [--guests N] [--settle S] [--only KIND,...] [--json FILE] [--keep]

Exit code: 0 when no kill left a difference; 1 with the story otherwise; 2 for wrong arguments; 130 when interrupted.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Final, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.torture.disk import LossyDisk, PlainDisk, can_make_lossy_disks
from tests.torture.run import SETTLE_S, Difference, Score, Torture, plan_kills

DISK_MIB: Final = 768
EXIT_INTERRUPTED: Final = 130


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None, help="what a run drew before; timing still differs")
    parser.add_argument("--guests", type=int, default=2, help="guests that boot, write and are looked into")
    parser.add_argument(
        "--settle", type=float, default=SETTLE_S, help="seconds until all must agree; for a busy machine"
    )
    parser.add_argument("--only", default="", help="kinds or points, separated by commas")
    parser.add_argument("--json", type=Path, default=None, help="where to write the summary")
    parser.add_argument("--keep", action="store_true", help="leave everything as it is after a difference")
    wanted = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if wanted.seed is None else wanted.seed
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    lossy = can_make_lossy_disks()
    if not lossy:
        screen.print("This user cannot mount file systems here: no power cuts and no full disks.")
    screen.print(f"seed {seed}")
    torture = Torture(LossyDisk(DISK_MIB) if lossy else PlainDisk(), seed, guests=wanted.guests, settle_s=wanted.settle)
    plan = plan_kills(random.Random(seed), wanted.kills, can_fail=lossy)
    if wanted.only:
        kinds = wanted.only.split(",")
        plan = [kinds[number % len(kinds)] for number in range(wanted.kills)]
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    story, interrupted = None, False
    try:
        story = run_plan(torture, plan, screen)
    except KeyboardInterrupt:
        interrupted = True
    summary = {
        **torture.score.summary(),
        "planned": len(plan),
        "failed": story is not None,
        "interrupted": interrupted,
        "at": torture.now,
    }
    text = json.dumps(summary, indent=1)
    if wanted.json is not None:
        wanted.json.write_text(text + "\n")
    sys.stdout.write(text + "\n")
    if story is not None:
        screen.print(f"seed {seed}, at {torture.now}: {story}", markup=False)
        if wanted.keep:
            screen.print(f"everything is left as it is: {torture.stand.data}, {torture.stand.process.log}")
            return 1
    torture.close()
    return EXIT_INTERRUPTED if interrupted else int(story is not None)


def interrupt(_number: int, _frame: object) -> NoReturn:
    """End early: what was done counts, and everything is cleaned up."""
    raise KeyboardInterrupt


def run_plan(torture: Torture, plan: list[str], screen: Console) -> str | None:
    """The story of the first difference, or None."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started = time.monotonic()
    with Progress(*columns, console=screen) as progress:
        bar = progress.add_task("boot", total=len(plan))

        def tell(score: Score) -> None:
            progress.update(bar, advance=1, description=f"{sum(score.kills.values())} kills, after {torture.now}")
            if not screen.is_terminal:
                took_s = time.monotonic() - started
                settled = f"{score.settle_s[-1]:.1f} s to settle"
                screen.print(f"{took_s:.0f} s: {torture.now}, {sum(score.kills.values())} kills, {settled}")

        try:
            torture.prepare()
            torture.run(plan, tell)
        except Difference as difference:
            return str(difference)
        except Exception:  # noqa: BLE001 - a bug of the harness is told like a difference
            return traceback.format_exc()
    return None


if __name__ == "__main__":
    sys.exit(main())
