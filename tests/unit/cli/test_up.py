from __future__ import annotations

from typing import Any

import httpx

from kevel.cli.up import configure_server


def test_unused_connections_are_kept_longer_than_clients_keep_theirs() -> None:
    app: Any = object()
    client_s = httpx.Limits().keepalive_expiry
    assert client_s is not None
    assert configure_server(app).timeout_keep_alive > 2 * client_s
