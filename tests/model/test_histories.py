"""What concurrent users of a Kevel are told, whose processes die all the time, is explained by the model."""

from __future__ import annotations

import pytest

from tests.model.histories import HistoryRun


@pytest.mark.parametrize("seed", range(32))
def test_what_users_are_told_has_an_order_that_the_model_allows(seed: int) -> None:
    history = HistoryRun(seed)
    try:
        history.play()
    finally:
        history.close()
