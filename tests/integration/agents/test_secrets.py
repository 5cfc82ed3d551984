"""S10 between machines: what a connection needs goes to the host that has the volume, and nowhere else."""

from __future__ import annotations

import pytest

from kevel.cli.agent import name_place
from kevel.storage import directory
from kevel.storage.base import ConnectionInfo, VolumeFile
from kevel.storage.volume_files import name_file
from tests.integration.agents.conftest import Stand
from tests.integration.agents.test_foreign_things import register

SECRET = "planted-chap-secret"


@pytest.fixture(autouse=True)
def _planted(monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(volume: VolumeFile, _pool: str | None) -> ConnectionInfo:
        data = {"name": name_file(volume.volume_id), "format": volume.format, "auth_password": SECRET}
        return {"driver_volume_type": "file", "data": data}

    monkeypatch.setattr(directory, "_describe", describe)


async def test_a_secret_goes_to_the_host_that_has_the_volume(
    stand: Stand, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    first, volume = await stand.add("first"), await stand.make_volume()
    server = await stand.make_server(host="first")
    await stand.until_server(server, "ACTIVE")
    await stand.attach(server, volume)
    await stand.until_volume(volume, "in-use")
    await first.stop()
    told = {}
    for name, credential in (("first", first.credential), ("second", await stand.credential("second"))):
        async with stand.speaking(credential) as speaker:
            epoch = await register(speaker, "there" if name == "second" else name_place(first.data))
            told[name] = (await speaker.ask("changes", {"epoch": epoch, "instance": "i", "since": 0})).text
    assert SECRET in told["first"]
    assert SECRET not in told["second"]
    out, err = capfd.readouterr()
    assert SECRET not in out + err + caplog.text
    database = b"".join((stand.root / "kevel" / name).read_bytes() for name in ("kevel.db", "kevel.db-wal"))
    assert SECRET.encode() not in database
