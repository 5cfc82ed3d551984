"""Figures: measured values with the mark they are held against, as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.table import Table


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured value. `mark` is what it should be at most (or at least); None: for information."""

    name: str
    value: float
    unit: str
    mark: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Is the mark met? None without a mark."""
        if self.mark is None:
            return None
        return self.value >= self.mark if self.at_least else self.value <= self.mark


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Figures that were taken together."""

    title: str
    figures: list[Figure]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median(values: Sequence[float]) -> float:
    """The 50th percentile."""
    return percentile(values, 50)


def spread(name: str, values: Sequence[float], *, mark: float | None = None, note: str = "") -> list[Figure]:
    """Median and p90 of a series in milliseconds; the mark is the median's."""
    return [
        Figure(name=f"{name}, median", value=median(values), unit="ms", mark=mark, note=note or f"n={len(values)}"),
        Figure(name=f"{name}, p90", value=percentile(values, 90), unit="ms"),
    ]


def as_table(section: Section) -> Table:
    """The section for a terminal."""
    table = Table(title=section.title, title_justify="left", title_style="bold")
    for name, justify in (("figure", "left"), ("value", "right"), ("mark", "right"), ("", "left"), ("note", "left")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for one in section.figures:
        verdict = {True: "[green]met[/green]", False: "[red]missed[/red]", None: ""}[one.met]
        table.add_row(one.name, show_value(one), show_mark(one), verdict, one.note)
    return table


def as_markdown(section: Section) -> str:
    """The section for `benchmarks/README.md`."""
    lines = [f"### {section.title}", "", "| figure | value | mark | | note |", "|---|---:|---:|---|---|"]
    for one in section.figures:
        verdict = {True: "met", False: "**missed**", None: ""}[one.met]
        lines.append(f"| {one.name} | {show_value(one)} | {show_mark(one)} | {verdict} | {one.note} |")
    return "\n".join(lines)


def as_json(section: Section) -> dict[str, Any]:
    """The section for programs."""
    figures = [msgspec.to_builtins(one) | {"met": one.met} for one in section.figures]
    return {"title": section.title, "figures": figures}


def show_value(one: Figure) -> str:
    """Value and unit, with as many digits as mean something."""
    digits = 0 if abs(one.value) >= 100 or one.value == int(one.value) else 1 if abs(one.value) >= 10 else 2
    return f"{one.value:.{digits}f} {one.unit}".rstrip()


def show_mark(one: Figure) -> str:
    """The mark with its direction."""
    return "" if one.mark is None else f"{'>=' if one.at_least else '<='} {one.mark:g}"
