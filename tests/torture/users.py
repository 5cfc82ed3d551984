"""The load: users of one project, each with volumes of its own, who ask for things while Kevel is being killed.

Each keeps a book of what it may find afterwards. An answer narrows the book to what was promised; no answer widens it
to what may have been stored. Volumes belong to one user, so a book is exact.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from kevel.cli.client import HEADERS
from tests.torture.stamps import Session, VolumeStamps
from tests.torture.stand import Stand

TIMEOUT_S: Final = 20.0
#: What a user waits for the end of what was asked for, before it goes on to something else.
PATIENCE_S: Final = 3.0
LOOK_S: Final = 0.03
#: Servers of its own that one user has at a time.
OWN_SERVERS_MAX: Final = 1
VOLUMES_MAX: Final = 4
SIZE_GIB_MAX: Final = 4
PROJECT: Final = "torture"
COMPUTE: Final = "/compute/v2.1"
VOLUME: Final = "/volume/v3"
#: Where a volume may be: a server's id, or one of these.
FREE: Final = "free"
GONE: Final = "gone"


@dataclass
class VolumeBook:
    """One volume, as its user knows it."""

    volume_id: str
    stamps: VolumeStamps
    places: set[str] = field(default_factory=lambda: {FREE})
    sizes: set[int] = field(default_factory=lambda: {1})
    session: Session | None = None


@dataclass
class ServerBook:
    """One server. `goals` of: running, stopped, deleted."""

    server_id: str
    goals: set[str] = field(default_factory=lambda: {"running"})


class NoAnswer(Exception):
    """Kevel did not answer: what was asked for may have been stored or not."""


class Refused(Exception):
    """Kevel said no, which changes nothing."""


class Counter:
    """Numbers that are never used twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> int:
        with self._lock:
            self._last += 1
            return self._last


class User:
    """One user: `run` in a thread of its own until `stop`."""

    def __init__(self, stand: Stand, name: str, token: str, dice: random.Random, numbers: Counter) -> None:
        self.stand = stand
        self.name = name
        self.dice = dice
        self.volumes: dict[str, VolumeBook] = {}
        self.servers: dict[str, ServerBook] = {}
        #: Names that were asked for and not answered: what bears them may exist.
        self.unanswered: dict[str, set[str]] = {"volume": set(), "server": set()}
        #: Guests that all users share.
        self.shared: list[str] = []
        self.counts: Tally[str] = Tally()
        self._numbers = numbers
        self._token = token
        self._http: httpx.Client | None = None

    def run(self, stop: threading.Event, favourite: str | None) -> None:
        """Ask for things, mostly for the favourite effect, until told to stop or Kevel does not answer."""
        headers = {**HEADERS, "X-Auth-Token": self._token}
        with httpx.Client(base_url=self.stand.url, timeout=TIMEOUT_S, trust_env=False, headers=headers) as self._http:
            while not stop.is_set():
                act = self._choose(favourite if self.dice.random() < 0.8 else None)
                try:
                    act()
                except Refused:
                    self.counts["refused"] += 1
                    time.sleep(LOOK_S)
                except NoAnswer:
                    return

    def _choose(self, favourite: str | None) -> Callable[[], None]:
        effects: dict[str, tuple[Callable[[], None], int]] = {
            "create_volume": (self.create_volume, 2),
            "grow_volume": (self.grow, 2),
            "delete_volume": (self.delete_volume, 1),
            "connect_volume": (self.attach, 8),
            "plug_disk": (self.attach, 4),
            "unplug_disk": (self.detach, 6),
            "disconnect_volume": (self.attach_and_detach, 3),
            "revoke_export": (self.attach_and_detach, 0),
            "resize_disk": (self.grow_attached, 2),
            "define_server": (self.create_server, 1),
            "start_server": (self.start_server, 1),
            "ask_shutdown": (self.stop_server, 1),
            "power_off": (self.stop_server, 1),
            "ask_reboot": (self.reboot, 1),
            "undefine_server": (self.delete_server, 1),
        }
        if favourite in effects:
            return effects[favourite][0]
        acts, weights = zip(*effects.values(), strict=True)
        chosen: Callable[[], None] = self.dice.choices(acts, weights=weights)[0]
        return chosen

    # Requests.

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        assert self._http is not None
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise NoAnswer from error
        self.counts["answered"] += 1
        if answer.status_code >= 500 and answer.status_code not in (503, 507):
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        if answer.is_error:
            raise Refused(answer.text)
        return answer.json() if answer.content else None

    def _promise(self, book: set[str], wanted: str, ask: Callable[[], Any]) -> None:
        """Ask for something; the book then says what may be so."""
        before = set(book)
        book.add(wanted)
        try:
            ask()
        except Refused:
            book.intersection_update(before)
            raise
        book.intersection_update({wanted})

    def _wait(self, look: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not look() and time.monotonic() < deadline:
            time.sleep(LOOK_S)

    def _status(self, book: VolumeBook) -> str:
        return str(self._send("GET", f"{VOLUME}/volumes/{book.volume_id}")["volume"]["status"])

    # Volumes.

    def create_volume(self) -> None:
        if len(self.volumes) >= VOLUMES_MAX:
            book = self._pick(attached=False)
            if book is None:
                raise Refused("no volume of its own is free")
            self.delete_volume(book)
            return
        name = f"{self.name}-{self._numbers.next()}"
        self.unanswered["volume"].add(name)
        try:
            made = self._send("POST", f"{VOLUME}/volumes", {"volume": {"name": name, "size": 1}})["volume"]
        except Refused:
            self.unanswered["volume"].discard(name)
            raise
        self.unanswered["volume"].discard(name)
        book = self.adopt_volume(made["id"])
        self._wait(lambda: self._status(book) == "available")

    def adopt_volume(self, volume_id: str) -> VolumeBook:
        """Keep a book for a volume."""
        book = VolumeBook(volume_id, VolumeStamps(volume_id))
        self.volumes[volume_id] = book
        return book

    def _pick(self, *, attached: bool) -> VolumeBook | None:
        found = [
            book
            for book in self.volumes.values()
            if len(book.places) == 1 and GONE not in book.places and (FREE not in book.places) is attached
        ]
        return self.dice.choice(found) if found else None

    def attach(self) -> None:
        book = self._pick(attached=False)
        if book is None:
            self._make_room()
            return
        own = [one.server_id for one in self.servers.values() if "deleted" not in one.goals]
        server_id = self.dice.choice(own if own and self.dice.random() < 0.3 else self.shared or own or [""])
        if not server_id:
            self.create_server()
            return
        path = f"{COMPUTE}/servers/{server_id}/os-volume_attachments"
        body = {"volumeAttachment": {"volumeId": book.volume_id}}
        book.session = None
        self._promise(book.places, server_id, lambda: self._send("POST", path, body))
        if self.dice.random() < 0.7:
            self._wait(lambda: self._status(book) == "in-use")
            if server_id in self.shared and self.dice.random() < 0.7:
                self.write(book, server_id)

    def _make_room(self) -> None:
        """Have a volume that can be attached."""
        if len(self.volumes) < 2:
            self.create_volume()
        elif self._pick(attached=True) is not None:
            self.detach()
        else:
            raise Refused("of all its volumes the user does not know where they are")

    def detach(self) -> None:
        book = self._pick(attached=True)
        if book is None:
            self.attach()
            return
        (server_id,) = book.places
        self._ask_counted(book)
        path = f"{COMPUTE}/servers/{server_id}/os-volume_attachments/{book.volume_id}"
        self._promise(book.places, FREE, lambda: self._send("DELETE", path))
        if self.dice.random() < 0.6:
            self._wait(lambda: self._status(book) == "available")
            if book.session is not None and self._status(book) == "available":
                book.stamps.end(book.session, self.stand.volume_file(book.volume_id))

    def attach_and_detach(self) -> None:
        if self._pick(attached=True) is None:
            self.attach()
        self.detach()

    def grow(self) -> None:
        self._grow(self._pick(attached=False) or self._pick(attached=True))

    def grow_attached(self) -> None:
        book = self._pick(attached=True)
        if book is None:
            self.attach()
            return
        if max(book.sizes) >= SIZE_GIB_MAX:
            self.detach()
            self.delete_volume(book)
            return
        self._grow(book)

    def _grow(self, book: VolumeBook | None) -> None:
        if book is None:
            self.create_volume()
            return
        if max(book.sizes) >= SIZE_GIB_MAX:
            if FREE in book.places:
                self.delete_volume(book)
            return
        before, wanted = set(book.sizes), max(book.sizes) + 1
        book.sizes.add(wanted)
        try:
            self._send("POST", f"{VOLUME}/volumes/{book.volume_id}/action", {"os-extend": {"new_size": wanted}})
        except Refused:
            book.sizes = before
            raise
        book.sizes = {wanted}
        self._wait(lambda: self._status(book) in ("available", "in-use"))

    def delete_volume(self, book: VolumeBook | None = None) -> None:
        book = book or self._pick(attached=False)
        if book is None:
            self.create_volume()
            return
        ask = f"{VOLUME}/volumes/{book.volume_id}"
        self._promise(book.places, GONE, lambda: self._send("DELETE", ask))

    # Servers of the user's own: hollow, since nobody looks into them.

    def create_server(self) -> None:
        if sum("deleted" not in one.goals for one in self.servers.values()) >= OWN_SERVERS_MAX:
            self.delete_server()
            return
        name = f"{self.name}-{self._numbers.next()}"
        image = self._send("GET", "/image/v2/images?name=hollow")["images"][0]["id"]
        body = {"server": {"name": name, "imageRef": image, "flavorRef": "tiny", "networks": "none"}}
        self.unanswered["server"].add(name)
        try:
            made = self._send("POST", f"{COMPUTE}/servers", body)["server"]
        except Refused:
            self.unanswered["server"].discard(name)
            raise
        self.unanswered["server"].discard(name)
        self.servers[made["id"]] = ServerBook(made["id"])
        if self.dice.random() < 0.7:
            self._wait(lambda: self._send("GET", f"{COMPUTE}/servers/{made['id']}")["server"]["status"] == "ACTIVE")

    def adopt_server(self, server_id: str, goal: str) -> None:
        """Keep a book for a server that was asked for and not answered."""
        self.servers[server_id] = ServerBook(server_id, {goal})

    def _own(self) -> ServerBook | None:
        found = [one for one in self.servers.values() if "deleted" not in one.goals]
        return self.dice.choice(found) if found else None

    def _act(self, book: ServerBook, goal: str, body: dict[str, Any]) -> None:
        path = f"{COMPUTE}/servers/{book.server_id}/action"
        self._promise(book.goals, goal, lambda: self._send("POST", path, body))
        status = {"running": "ACTIVE", "stopped": "SHUTOFF"}[goal]
        if self.dice.random() < 0.7:
            path = f"{COMPUTE}/servers/{book.server_id}"
            self._wait(lambda: self._send("GET", path)["server"]["status"] == status)

    def stop_server(self) -> None:
        book = self._own()
        if book is None:
            self.create_server()
        elif "running" in book.goals:
            self._act(book, "stopped", {"os-stop": None})
        else:
            self._act(book, "running", {"os-start": None})

    start_server = stop_server

    def reboot(self) -> None:
        book = self._own()
        if book is None:
            self.create_server()
        elif "stopped" in book.goals:
            self._act(book, "running", {"os-start": None})
        else:
            self._act(book, "running", {"reboot": {"type": self.dice.choice(["SOFT", "HARD"])}})

    def delete_server(self) -> None:
        book = self._own()
        if book is None:
            self.create_server()
            return
        for volume in self.volumes.values():
            # Whatever happens to the request: a volume of a server that may be gone may be free.
            if book.server_id in volume.places:
                volume.places.add(FREE)
        path = f"{COMPUTE}/servers/{book.server_id}"
        self._promise(book.goals, "deleted", lambda: self._send("DELETE", path))

    # The data.

    def write(self, book: VolumeBook, server_id: str) -> None:
        """Let the guest write to the volume from now on, if it sees it."""
        name = self._find_disk(server_id, book.volume_id)
        if name is None:
            return
        for session in book.stamps.sessions.values():
            self._read_back(book, session, server_id, name)
        session = book.stamps.begin(self._numbers.next(), server_id)
        if self.stand.ask_guest(server_id, book.stamps.command(session, name)) is not None:
            book.session = session
            self.counts["writing sessions"] += 1

    def _find_disk(self, server_id: str, volume_id: str) -> str | None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            output = self.stand.ask_guest(server_id, "disks") or ""
            for words in map(str.split, output.splitlines()):
                # virtio shows 20 letters of a serial.
                if len(words) == 3 and len(words[2]) >= 20 and volume_id.startswith(words[2]):
                    return words[0]
            time.sleep(LOOK_S)
        return None

    def _read_back(self, book: VolumeBook, session: Session, server_id: str, disk: str) -> None:
        """The guest reads what an earlier holder wrote last and was told is stored."""
        if session.counted == 0 or session.region < len(book.stamps.sessions):
            return
        last = book.stamps.first_block(session) + session.counted - 1
        self.counts["blocks read back in guests"] += 1
        # In two steps: a read that fails, since the power was cut in the middle, is no empty block.
        fetch = f"dd if=/dev/{disk} of=/tmp/block bs=512 skip={last} count=1 2>/dev/null"
        read = self.stand.ask_guest(server_id, f"{fetch} && head -n 1 /tmp/block")
        wanted = book.stamps.stamp(session.number, session.counted).split(b"\n")[0].decode()
        if read is not None and read.strip("\0\n") != wanted:
            raise AssertionError(f"guest {server_id} reads {read!r} from volume {book.volume_id}, not {wanted!r}")

    def _ask_counted(self, book: VolumeBook) -> None:
        """How much the guest has been told is stored."""
        if book.session is not None:
            ask_counted(self.stand, book.session)


def ask_counted(stand: Stand, session: Session) -> None:
    """Learn from the guest how many of its blocks it has been told are stored."""
    if session.ended is None:
        output = (stand.ask_guest(session.server_id, f"cat {session.count_file}") or "").strip()
        if output.isdigit():
            session.counted = max(session.counted, int(output))
