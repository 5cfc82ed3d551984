"""Run seeds: `python -m tests.simulation FIRST COUNT`. Prints each seed that fails, and how much was simulated."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.run import Run


def main() -> int:
    """0 when no seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("first", type=int, help="first seed")
    parser.add_argument("count", type=int, nargs="?", default=1, help="number of seeds")
    wanted = parser.parse_args()
    failed = operations = crashes = 0
    simulated_s = 0.0
    started = time.process_time()
    for seed in range(wanted.first, wanted.first + wanted.count):
        run = Run(seed)
        try:
            run.play()
        except AssertionError as error:
            failed += 1
            print(f"seed {seed}, {run.loop.time():.1f} s in, {run.crashes} crashes: {error}", flush=True)
        finally:
            run.close()
        operations += run.operations
        crashes += run.crashes
        simulated_s += run.loop.time()
    cpu_s = time.process_time() - started
    print(
        f"{wanted.count} seeds, {failed} failed: {operations} requests, {crashes} crashes, {simulated_s:.0f} simulated "
        f"seconds in {cpu_s:.1f} CPU seconds ({operations / cpu_s:.0f} requests a CPU second)"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
