"""Check histories of seeds: `python -m tests.model FIRST COUNT`. Prints what fails, and how much was checked."""

from __future__ import annotations

import argparse
import sys
import time

from tests.model.histories import REQUESTS_EACH, HistoryRun


def main() -> int:
    """0 when no seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("first", type=int, help="first seed")
    parser.add_argument("count", type=int, nargs="?", default=1, help="number of seeds")
    parser.add_argument("--requests", type=int, default=REQUESTS_EACH, help="requests of each of the four users")
    wanted = parser.parse_args()
    failed = operations = things = crashes = 0
    simulated_s = 0.0
    started = time.process_time()
    for seed in range(wanted.first, wanted.first + wanted.count):
        history = HistoryRun(seed, requests_each=wanted.requests)
        try:
            history.play()
        except AssertionError as error:
            failed += 1
            print(f"seed {seed}, {history.run.loop.time():.1f} s in: {error}", flush=True)
        finally:
            history.close()
        operations += len(history.users.exchanges)
        things += len(history.users.made("create")) + len(history.users.made("create_server"))
        crashes += history.run.crashes
        simulated_s += history.run.loop.time()
    cpu_s = time.process_time() - started
    print(
        f"{wanted.count} seeds, {failed} failed: {things} histories of {operations} requests, {crashes} crashes, "
        f"{simulated_s:.0f} simulated seconds in {cpu_s:.1f} CPU seconds ({operations / cpu_s:.0f} requests a second)"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
