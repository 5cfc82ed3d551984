"""What holds of every row of every API's table."""

from __future__ import annotations

import pytest

from kevel.api.app import APIS
from kevel.api.operations import Api


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_nothing_new_is_taken_on_while_space_is_short(api: Api) -> None:
    makers = [row for row in api.operations if row.method == "POST" and row.new_id is not None]
    assert [row.name for row in makers if not row.needs_space] == []
