"""The check of what tests have seen: it names every answer that none has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kevel.api.app import APIS
from kevel.api.operations import Policy
from tests.answered import main


def everything() -> list[dict[str, Any]]:
    """A record of tests that have seen whatever the tables list."""
    return [
        {"api": api.name, "operation": row.name, "status": status, "tests": ["test"]}
        for api in APIS
        for row in api.operations
        for status in {row.success, *row.errors} | ({403} if row.policy in (Policy.ADMIN, Policy.SERVICE) else set())
    ]


def test_when_all_has_been_seen_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "answered.json"
    record.write_text(json.dumps(everything()))
    assert main([str(record)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("operation", "status"), [("showVolume", 200), ("showVolume", 404), ("resetStatus", 403), ("resetStatus", 404)]
)
def test_an_answer_that_no_test_has_seen_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], operation: str, status: int
) -> None:
    record = tmp_path / "answered.json"
    lines = [line for line in everything() if (line["operation"], line["status"]) != (operation, status)]
    record.write_text(json.dumps(lines))
    assert main([str(record)]) == 1
    assert capsys.readouterr().out == f"no test has seen volume {operation}: {status}\n"
