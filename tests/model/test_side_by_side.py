"""Random sequences of requests, crashes and losses, drawn and shrunk by Hypothesis, against the model."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.model.side_by_side import SideBySide

TestSideBySide = pytest.mark.timeout(400)(SideBySide.TestCase)
TestSideBySide.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
