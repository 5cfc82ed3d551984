"""Kevel killed around each effect on an NBD export, with a real storage daemon: it goes on, nothing is left over."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kevel.cli.client import Cloud
from kevel.cli.process import KevelProcess
from kevel.domain.errors import KevelError
from kevel.runtime import failpoints
from kevel.storage.nbd.daemon import PROGRAM
from kevel.storage.nbd.qmp import Qmp
from tests.nbd_pool import find_port

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"{PROGRAM} is not installed"),
]

WAIT_S = 60.0
POINTS = ("export_volume.done", "connect_volume.begin", "revoke_export.begin", "revoke_export.done")


def count_exports(data: Path) -> int:
    """What the daemon says itself."""
    (folder,) = (data / "nbd" / "pools" / "remote" / "hosts").iterdir()
    with Qmp(folder, "qmp.sock") as qmp:
        return len(qmp.ask("query-block-exports", list))


def test_a_kill_around_any_effect_on_an_export_costs_time_only(
    data: Path, kevel: Callable[..., KevelProcess], tmp_path: Path
) -> None:
    config = tmp_path / "kevel.toml"
    config.write_text(
        f'[[pools]]\nname = "remote"\ndirectory = "{data}/remote"\nprotocol = "nbd"\n'
        f'listen = "127.0.0.1:{find_port()}"\n'
    )
    process = kevel("--config", str(config), "--hypervisor", "sim")
    spent = tmp_path / "spent"
    environment = {
        failpoints.VARIABLE: ",".join(f"{point}=kill" for point in POINTS),
        failpoints.SPENT_VARIABLE: str(spent),
    }
    cloud = process.start(environment)

    def insist(act: Callable[[Cloud], None]) -> None:
        """Do it, starting Kevel anew whenever it has been killed."""
        nonlocal cloud
        for _ in range(2 * len(POINTS)):
            try:
                if process.wait_end(0) is not None:
                    process.kill()
                    cloud = process.start(environment)
                act(cloud)
            except (KevelError, OSError):
                assert process.wait_end(WAIT_S) == -9
            else:
                return
        raise AssertionError("killed more often than there are points")

    cloud.client.post(
        "/volume/v3/types", {"volume_type": {"name": "remote", "extra_specs": {"volume_backend_name": "remote"}}}
    )
    (image,) = cloud.client.get("/image/v2/images?name=tiny")["images"] or [None]
    assert image is not None
    server = cloud.create_server("s", image="tiny", flavor="tiny")
    cloud.wait_server(server, "ACTIVE", WAIT_S)
    volume = cloud.client.post("/volume/v3/volumes", {"volume": {"size": 1, "volume_type": "remote"}})["volume"]["id"]
    cloud.wait_volume(volume, "available", WAIT_S)

    cloud.attach(server, volume)
    insist(lambda now: now.wait_volume(volume, "in-use", WAIT_S))
    assert count_exports(data) == 1
    cloud.detach(server, volume)
    insist(lambda now: now.wait_volume(volume, "available", WAIT_S))
    assert count_exports(data) == 0
    assert sorted(spent.read_text().split()) == sorted(POINTS)
    process.stop()
