"""`kevel openapi` prints the documents."""

from __future__ import annotations

import json

import pytest
from openapi_spec_validator import validate
from typer.testing import CliRunner

from kevel.api.app import APIS
from kevel.cli.main import app
from kevel.domain.errors import KevelError


@pytest.mark.parametrize("name", [api.name for api in APIS])
def test_a_document_is_printed_as_json(name: str) -> None:
    result = CliRunner().invoke(app, ["openapi", name])
    assert result.exit_code == 0
    validate(json.loads(result.stdout))


def test_the_microversion_may_be_chosen() -> None:
    result = CliRunner().invoke(app, ["openapi", "volume", "--microversion", "3.12"])
    assert json.loads(result.stdout)["info"]["version"] == "3.12"


@pytest.mark.parametrize("words", [["sails"], ["image", "--microversion", "2.1"], ["volume", "--microversion", "x"]])
def test_a_document_that_is_none_is_an_error(words: list[str]) -> None:
    result = CliRunner().invoke(app, ["openapi", *words])
    assert result.exit_code != 0
    assert isinstance(result.exception, KevelError)
