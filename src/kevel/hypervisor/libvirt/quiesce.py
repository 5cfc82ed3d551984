"""Hold a guest's file systems still for an instant, where an agent in the guest answers.

A guest that stays frozen hangs for its users, and the process that froze it may die at any time. So a file says
"frozen" from before the freeze until after the thaw, and where it stays, or is found at the next start, the guest is
asked to thaw until its agent has done it.
"""

from __future__ import annotations

import contextlib
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt

from kevel.hypervisor.libvirt.domain_xml import AGENT_CHANNEL

#: What an agent may take to answer; the guest's writers wait as long.
ANSWER_S = 5
#: How often, and how many times, a guest that may be frozen is asked to thaw.
THAW_AGAIN_S = 2.0
THAW_TRIES_MAX = 300

FindDomain = Callable[[str], libvirt.virDomain | None]


class Quiescer:
    """Freezes and thaws the guests of one host. `servers_dir` holds a directory for each server."""

    def __init__(self, servers_dir: Path, find_domain: FindDomain) -> None:
        self._servers_dir = servers_dir
        self._find_domain = find_domain
        self._thawing: set[str] = set()
        self._lock = threading.Lock()

    def resume(self) -> None:
        """Thaw what an earlier life of this process may have left frozen; returns at once."""
        for mark in self._servers_dir.glob("*/frozen"):
            self._thaw_later(mark.parent.name)

    def forget(self, server_id: str) -> None:
        """The guest starts anew: nothing of it is frozen."""
        self._mark(server_id).unlink(missing_ok=True)

    @contextlib.contextmanager
    def frozen(self, domain: libvirt.virDomain, server_id: str) -> Iterator[None]:
        """Inside, the guest's file systems are frozen if its agent can do that in time; else as they are."""
        if not _has_agent(domain):
            yield
            return
        mark = self._mark(server_id)
        mark.touch(mode=0o600)
        try:
            # Its error means: crash-consistent. It may have been frozen all the same, just too late for an answer.
            with contextlib.suppress(libvirt.libvirtError):
                domain.agentSetResponseTimeout(ANSWER_S)
                domain.fsFreeze()
            yield
        finally:
            if not _thaw(domain, mark):
                self._thaw_later(server_id)

    def _mark(self, server_id: str) -> Path:
        return self._servers_dir / server_id / "frozen"

    def _thaw_later(self, server_id: str) -> None:
        with self._lock:
            if server_id not in self._thawing:
                self._thawing.add(server_id)
                threading.Thread(target=self._keep_thawing, args=(server_id,), daemon=True).start()

    def _keep_thawing(self, server_id: str) -> None:
        again = threading.Event()
        mark = self._mark(server_id)
        for _ in range(THAW_TRIES_MAX):
            domain = None
            with contextlib.suppress(libvirt.libvirtError):
                domain = self._find_domain(server_id)
            if not mark.exists() or (domain is not None and _thaw(domain, mark)):
                break
            again.wait(THAW_AGAIN_S)
        with self._lock:
            self._thawing.discard(server_id)


def _thaw(domain: libvirt.virDomain, mark: Path) -> bool:
    """Ask once; True when there is nothing left to thaw, and the mark is gone."""
    try:
        if domain.isActive():
            domain.agentSetResponseTimeout(ANSWER_S)
            domain.fsThaw()
    except libvirt.libvirtError as error:
        # An agent that cannot freeze cannot thaw either, and says so; one that is silent may answer the next time.
        if error.get_error_code() in (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_AGENT_UNSYNCED):
            return False
    mark.unlink(missing_ok=True)
    return True


def _has_agent(domain: libvirt.virDomain) -> bool:
    """Whether the guest runs and somebody in it has opened the agent's channel."""
    if domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
        return False
    for target in ET.fromstring(domain.XMLDesc(0)).iterfind("devices/channel/target"):
        if target.attrib.get("name") == AGENT_CHANNEL:
            return target.attrib.get("state") == "connected"
    return False
