"""Fixtures of the identity tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.identity.world import World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Identity after its first start."""
    async with open_world(tmp_path) as opened:
        yield opened
