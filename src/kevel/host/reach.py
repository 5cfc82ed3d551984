"""What this host reaches of the control plane's directories: looked at before it registers, and again and again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog

from kevel.domain.agents import HostSettings, PoolPlace, Reach
from kevel.domain.errors import KevelError
from kevel.host.remote import RemoteControl
from kevel.runtime.ports import Executor
from kevel.storage.base import Connector
from kevel.storage.directory import DirectoryConnector
from kevel.storage.marks import read_mark

log = structlog.get_logger(__name__)

#: How often the marks are read.
LOOK_S: Final = 20.0
#: A directory whose mark has not been read by then is not reached: a dead network file system answers nothing at all.
MARK_S: Final = 5.0


class ReachWatch:
    """Reads the marks. `connectors` is filled, and kept true, by it."""

    def __init__(self, control: RemoteControl, executor: Executor) -> None:
        """`executor`: for nothing else, since a dead file system holds its threads."""
        self._control = control
        self._executor = executor
        self.connectors: dict[str, Connector] = {}
        self._looks: dict[str, asyncio.Task[str | None]] = {}

    async def look(self, settings: HostSettings, files: Executor) -> Reach:
        """What is reached now; `files` runs what connectors do from now on."""
        default = next((Path(place.directory) for place in settings.pools if place.pool is None), None)
        pools = {place.pool: Path(place.directory) for place in settings.pools if place.pool is not None}
        if default is not None:
            self.connectors["file"] = DirectoryConnector(default, files, pools)
        places = (settings.images, *settings.pools)
        found = await asyncio.gather(*(self._is_reached(place) for place in places))
        reached = tuple(place.backend for place, there in zip(settings.pools, found[1:], strict=True) if there)
        return Reach(images=found[0], pools=reached)

    async def _is_reached(self, place: PoolPlace) -> bool:
        look = self._looks.get(place.directory)
        if look is None:
            look = asyncio.ensure_future(self._executor.run(read_mark, Path(place.directory)))
            self._looks[place.directory] = look
        done, _ = await asyncio.wait({look}, timeout=MARK_S)
        if not done:
            return False
        del self._looks[place.directory]
        return look.result() == place.mark

    async def run(self, files: Executor) -> None:
        """Tell whenever it changes, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                reach = await self.look(await self._control.read_settings(), files)
                if reach != self._control.reach:
                    log.warning("the host reaches other directories", images=reach.images, pools=reach.pools)
                    await self._control.tell_reach(reach)
            except KevelError as error:
                log.warning("what the host reaches was not told", reason=error.message)
