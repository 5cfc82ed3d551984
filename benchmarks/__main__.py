"""`make bench`, or `python -m benchmarks [trace] [sim] [pages] [libvirt] [nbd]`: measure, and print tables or JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Final

from rich.console import Console

from benchmarks.figures import Section, as_json, as_markdown, as_table
from benchmarks.guest import measure_guest
from benchmarks.machine import describe_machine
from benchmarks.nbd import measure_nbd
from benchmarks.pages import measure_pages
from benchmarks.sim import measure_sim
from benchmarks.trace_attach import measure_trace
from kevel.domain.errors import KevelError

PARTS: Final[dict[str, Callable[[], Section]]] = {
    "trace": measure_trace,
    "sim": measure_sim,
    "pages": measure_pages,
    "libvirt": measure_guest,
    "nbd": measure_nbd,
}


def main() -> int:
    """Run the parts; 0 when all could be measured, whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(PARTS)}; all of them by default")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON for programs")
    form.add_argument("--markdown", action="store_true", help="print Markdown, for benchmarks/README.md")
    options = parser.parse_args()
    if wrong := [name for name in options.parts if name not in PARTS]:
        parser.error(f"there is no part {wrong[0]!r}; choose from {', '.join(PARTS)}")
    machine = describe_machine()
    screen = Console(stderr=options.json or options.markdown, width=None if sys.stdout.isatty() else 140)
    screen.print(", ".join(f"{key}: {value}" for key, value in machine.items()), highlight=False)
    sections: list[Section] = []
    try:
        for name in options.parts or PARTS:
            with screen.status(f"{name} ..."):
                sections.append(PARTS[name]())
            screen.print(as_table(sections[-1]))
    except KevelError as error:
        print(f"benchmarks: {error.message}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({"machine": machine, "sections": [as_json(one) for one in sections]}, indent=2))
    if options.markdown:
        print("\n\n".join(as_markdown(one) for one in sections))
    return 0


if __name__ == "__main__":
    sys.exit(main())
