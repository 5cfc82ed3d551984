"""Hunt planted bugs: `python -m tests.planted [NAME...]`. Exit code 1 when one of them is missed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

import msgspec
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.planted.bugs import BUGS
from tests.planted.finders import FINDERS
from tests.planted.hunt import CPU_S_MAX, TRIALS_MAX, Hunt, hunt_named


def main() -> int:
    """0 when each bug was found."""
    wanted = _parse()
    unknown = sorted(set(wanted.names).difference(BUGS))
    if unknown:
        print(f"there is no planted bug {unknown[0]}; there are: {', '.join(BUGS)}", file=sys.stderr)
        return 2
    names = wanted.names or [name for name, each in BUGS.items() if not each.unseen]
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("hunting", total=len(names))
        found: dict[str, Hunt] = {}
        for done in _hunt_all(names, wanted):
            found[done.bug] = done
            progress.console.print(_sentence(done), highlight=False, markup=False)
            progress.advance(task)
    hunts = [found[name] for name in names]
    if wanted.json:
        print(msgspec.json.format(msgspec.json.encode(hunts)).decode())
    else:
        _print_table(hunts)
        for each in BUGS.values():
            if each.unseen and each.name not in names:
                print(f"not hunted: {each.name}: {each.unseen}")
    missed = [each.bug for each in hunts if not each.found]
    cpu_s = sum(each.cpu_s for each in hunts)
    print(f"{len(hunts) - len(missed)} of {len(hunts)} planted bugs found in {cpu_s:.0f} CPU seconds", file=sys.stderr)
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="bugs to hunt; all when none is named")
    parser.add_argument("--finder", action="append", choices=list(FINDERS), help="only this finder; may be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument(
        "--seeds-max", type=int, default=TRIALS_MAX, help="trials of each finder before a bug is missed"
    )
    parser.add_argument("--cpu-s-max", type=float, default=CPU_S_MAX, help="CPU seconds before a bug is missed")
    return parser.parse_args()


def _hunt_all(names: Sequence[str], wanted: argparse.Namespace) -> Iterator[Hunt]:
    """Each hunt as it ends."""
    finders = wanted.finder or list(FINDERS)
    bounds = wanted.seeds_max, wanted.cpu_s_max
    with ProcessPoolExecutor(wanted.jobs, mp_context=get_context("spawn")) as pool:
        hunts = [pool.submit(hunt_named, name, finders, *bounds) for name in names]
        for ended in as_completed(hunts):
            yield ended.result()


def _sentence(done: Hunt) -> str:
    if done.broken:
        return f"{done.bug}: proves nothing ({done.trial}): {done.broken}; {done.said}"
    if not done.found:
        return (
            f"{done.bug}: MISSED in {done.trials} trials and {done.cpu_s:.0f} CPU s; the wrong code ran {done.bites} x"
        )
    return f"{done.bug}: {done.trial}, {done.cpu_s:.1f} CPU s: {done.said}"


def _print_table(hunts: Sequence[Hunt]) -> None:
    table = Table(box=box.MARKDOWN)
    for heading in ("planted bug", "stands for", "found by", "trials", "CPU s", "what was said"):
        table.add_column(heading, justify="right" if heading in {"trials", "CPU s"} else "left", no_wrap=True)
    for each in hunts:
        by = each.trial if each.found else "MISSED"
        said = each.broken or each.said
        table.add_row(
            each.bug, each.stands_for, by, str(each.trials), f"{each.cpu_s:.1f}", said[:160].replace("|", "/")
        )
    Console(width=600).print(table, highlight=False, markup=False)


if __name__ == "__main__":
    sys.exit(main())
