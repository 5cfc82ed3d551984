"""What the operating system's randomness is made into."""

from __future__ import annotations

import re

from kevel.runtime.ports import SystemIds


def test_a_secret_can_stand_on_a_command_line_whatever_it_is() -> None:
    secrets = {SystemIds().secret() for _ in range(200)}
    assert len(secrets) == 200
    assert all(re.fullmatch(r"[0-9a-f]{64}", secret) for secret in secrets)
