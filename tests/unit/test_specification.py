"""SPECIFICATION.md names tests; they have to exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
NAMED = sorted(set(re.findall(r"`(test_\w+)`", (REPO / "SPECIFICATION.md").read_text())))
DEFINED = {
    name
    for file in (REPO / "tests").rglob("*.py")
    for name in re.findall(r"^\s*(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
}


def test_every_promise_has_its_heading() -> None:
    text = (REPO / "SPECIFICATION.md").read_text()
    wanted = [f"S{number}" for number in range(1, 16)] + [f"L{number}" for number in range(1, 7)]
    assert [word for word in wanted if f"**{word} " not in text] == []


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_the_specification_names_exists(name: str) -> None:
    assert name in DEFINED
