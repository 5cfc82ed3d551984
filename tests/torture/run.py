"""The torture: load, a kill, a restart, the census; again and again on one data directory."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kevel.cli.client import ApiClient, ApiError, Cloud
from kevel.domain.errors import KevelError
from kevel.runtime import failpoints
from tests.torture.census import Census
from tests.torture.disk import LossyDisk, PlainDisk
from tests.torture.stand import Stand
from tests.torture.users import FREE, GONE, PROJECT, Counter, User, ask_counted

USERS: Final = 3
#: L6, and what retries with backoff may add to it. It is real time: a machine with other work to do needs more.
SETTLE_S: Final = 30.0
#: How long an armed point may take to be reached before Kevel is killed without it.
LOAD_S: Final = 4.0
JOIN_S: Final = 60.0
LOOK_S: Final = 0.1
WAIT_S: Final = 60.0
END_S: Final = 10.0
#: Passes after which a point kills: COMMITs are many.
PASSES_MAX: Final = {"commit": 40, "answer": 20, "connect_volume": 6, "plug_disk": 6, "unplug_disk": 6}
PASSES: Final = 3
#: Acts that a back end of local files never needs on their own (the rung is passed in a record), and those that the
#: users here ask for nothing that needs.
ASKED_BY_NOBODY: Final = tuple(
    f"{place}{effect}"
    for place in ("", failpoints.CHILD)
    for effect in (
        "tune_disk",
        "copy_disk",
        "copy_root",
        "end_copy",
        "swap_disk",
        "end_swap",
        "pause_guest",
        "unpause_guest",
        "suspend_guest",
        "resume_guest",
    )
)
UNREACHABLE: Final = tuple(
    f"{effect}.{moment}"
    for effect in (
        "export_volume",
        "revoke_export",
        "create_backup",
        "restore_backup",
        "delete_backup",
        "create_volume_from",
        "rewrite_volume",
        "create_snapshot",
        "delete_snapshot",
        "write_image",
        "take_file",
        "make_part",
        "take_written",
        "remove_image",
        "make_target",
        "seal_target",
        *ASKED_BY_NOBODY,
    )
    for moment in ("begin", "done")
)
KEVEL, START, WORKER, GUEST, POWER, FULL = "kevel", "start", "worker", "guest", "power", "full"
#: Kevel is killed again so long after the beginning of its start, at the most.
START_S_MAX: Final = 3.0


class Difference(Exception):
    """Something does not agree after a kill; the text is the story."""


@dataclass
class Score:
    """What happened so far."""

    seed: int
    kills: Tally[str] = field(default_factory=Tally)
    points: Tally[str] = field(default_factory=Tally)
    #: Points that were armed and not reached in time.
    missed: Tally[str] = field(default_factory=Tally)
    requests: Tally[str] = field(default_factory=Tally)
    settle_s: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """For `--json`."""
        ordered = sorted(self.settle_s) or [0.0]
        return {
            "seed": self.seed,
            "kills": sum(self.kills.values()),
            "by_kind": dict(self.kills),
            "points_reached": len(self.points),
            "points_missed": dict(self.missed),
            "requests": dict(self.requests),
            "settle_s_median": round(ordered[len(ordered) // 2], 2),
            "settle_s_max": round(ordered[-1], 2),
        }


def plan_kills(dice: random.Random, count: int, *, can_fail: bool) -> list[str]:
    """What to kill, in order: at each failpoint in turn where the kill before has ended Kevel, so that its restart arms
    the point and the recovery is tried as well; otherwise at random moments.
    """
    points = [name for name in failpoints.NAMES if name not in UNREACHABLE]
    others = [KEVEL] * 6 + [START] * 2 + [WORKER] * 3 + [GUEST] * 2 + ([POWER, FULL] * 2 if can_fail else [])
    plan: list[str] = []
    queue: list[str] = []
    while len(plan) < count:
        if not plan or ends_kevel(plan[-1]):
            queue = queue or dice.sample(points, len(points))
            plan.append(queue.pop())
        else:
            plan.append(dice.choice(others))
    return plan


def ends_kevel(kill: str) -> bool:
    """Does Kevel's own process die of it?"""
    return kill not in (WORKER, GUEST) and not kill.startswith(failpoints.CHILD)


class Torture:
    """One run. Raises Difference; `score` says how far it came."""

    def __init__(self, disk: LossyDisk | PlainDisk, seed: int, *, guests: int, settle_s: float = SETTLE_S) -> None:
        self.dice = random.Random(seed)
        self.score = Score(seed)
        self.stand = Stand(disk)
        self.users: list[User] = []
        self.census = Census(self.stand, self.users)
        self.shared: list[str] = []
        self.now = "start"
        self._guests = guests
        self._settle_s = settle_s
        self._numbers = Counter()
        self._errors: list[BaseException] = []
        #: The failpoint that Kevel was started with, and one that killed it where it was not waited for.
        self._armed = self._fired = ""
        #: Some requests may have failed for want of space.
        self._forgiven = False
        self._others: dict[str, Callable[[], None]] = {
            KEVEL: self._kill_kevel,
            START: self._kill_kevel,
            WORKER: self._kill_worker,
            GUEST: self._kill_guest,
            POWER: self._cut_power,
            FULL: self._fill_disk,
        }

    def prepare(self) -> None:
        """Start Kevel, make users, images and the guests that are looked into."""
        self.stand.start()
        self.stand.furnish()
        self._make_users()
        for number in range(self._guests):
            # One guest whose volumes are SCSI disks, one that must cooperate at each unplug.
            image = ("tiny", "virtio")[number % 2]
            self.shared.append(self._create_server(f"guest-{number}", image))
        for user in self.users:
            user.shared = self.shared
        self._boot_guests()

    def run(self, plan: list[str], tell: Callable[[Score], None] = lambda score: None) -> None:
        """Kill as planned, and delete everything at the end."""
        for kill, following in itertools.pairwise([*plan, KEVEL]):
            self.now = kill
            if kill != self._fired:
                self._arm(kill)
                self._load(kill, following)
            self._fired = ""
            self._settle()
            tell(self.score)
        self.now = "end"
        self.finish()

    def finish(self) -> None:
        """QEMU holds nothing that no record names; then everything is deleted, and nothing is left."""
        self.look_with_driver()
        self._restart()
        self._settle()
        self._delete_everything()

    def close(self) -> None:
        """End every process and remove the data."""
        self.stand.close()

    # Kills.

    def _arm(self, kill: str) -> None:
        """Have Kevel run with the failpoint armed; by a clean restart, if it is not so already."""
        if "." in kill and kill != self._armed:
            self.stand.stop()
            self._restart(kill)

    def _load(self, kill: str, following: str) -> None:
        """Users ask for things until the kill has taken effect, and a moment longer if Kevel lives on."""
        point = "." in kill
        favourite = kill.removeprefix(failpoints.CHILD).partition(".")[0] if point else None
        with self._using(favourite):
            if point:
                self._wait_for_point(kill)
            else:
                time.sleep(self.dice.uniform(0.3, 1.8))
                self._others[kill]()
        if not self.stand.is_alive():
            self._recover(kill, following)

    def _wait_for_point(self, kill: str) -> None:
        deadline = time.monotonic() + LOAD_S
        while time.monotonic() < deadline:
            if kill in self.stand.spent():
                break
            time.sleep(0.02)
        else:
            self.score.missed[kill] += 1
            self._kill_kevel()
            return
        self.score.points[kill] += 1
        if kill.startswith(failpoints.CHILD):
            self.score.kills["point in the child"] += 1
            time.sleep(self.dice.uniform(0.0, 0.5))
            return
        self.score.kills["point"] += 1
        if self.stand.process.wait_end(END_S) != -signal.SIGKILL:
            raise Difference(f"Kevel was to be killed at {kill}, and lives.")

    @contextlib.contextmanager
    def _using(self, favourite: str | None) -> Iterator[None]:
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._use, args=(user, stop, favourite if user is self.users[0] else None))
            for user in self.users
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(JOIN_S)
        if self._errors:
            raise Difference(f"a user met {self._errors[0]!r}")
        if any(thread.is_alive() for thread in threads):
            raise Difference(f"A user's request has no answer after {JOIN_S:g} s.")

    def _use(self, user: User, stop: threading.Event, favourite: str | None) -> None:
        try:
            user.run(stop, favourite)
        except Exception as error:  # noqa: BLE001 - told by the main thread
            self._errors.append(error)

    def _kill_kevel(self) -> None:
        self.score.kills[KEVEL] += 1
        pid = self.stand.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self.stand.process.wait_end(END_S)

    def _kill_start(self) -> None:
        """Start Kevel, and kill it on its way up or just behind that."""
        self.score.kills[START] += 1
        self.stand.kill()
        timer = threading.Timer(self.dice.uniform(0.1, START_S_MAX), self._kill_whatever_runs)
        timer.start()
        with contextlib.suppress(KevelError):
            self.stand.start()
        timer.join()

    def _kill_whatever_runs(self) -> None:
        pid = self.stand.process.pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def _kill_worker(self) -> None:
        deadline = time.monotonic() + END_S
        while (pid := self.stand.worker_pid()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.score.kills[WORKER] += 1
        time.sleep(0.3)

    def _kill_guest(self) -> None:
        guests = self.stand.guests()
        own = [pid for pid, server_id in guests.items() if server_id not in self.shared]
        # A guest that is looked into has to boot again, which takes an emulator its time.
        pid = self.dice.choice(own if own and self.dice.random() < 0.8 else list(guests) or [0])
        if pid:
            self._doubt_servers({guests[pid]})
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.score.kills[GUEST] += 1
        time.sleep(0.3)

    def _cut_power(self) -> None:
        assert isinstance(self.stand.disk, LossyDisk)
        self.score.kills[POWER] += 1
        for session in [book.session for user in self.users for book in list(user.volumes.values())]:
            if session is not None:
                ask_counted(self.stand, session)
        # Nobody hears from a machine without power: else users would be told of its dead disk.
        pid = self.stand.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        self.stand.disk.cut_power()
        self._doubt_servers({server_id for user in self.users for server_id in user.servers})
        self.stand.kill_everything()

    def _fill_disk(self) -> None:
        """No block is free: a detach is accepted all the same, and a Kevel that is killed then comes back."""
        assert isinstance(self.stand.disk, LossyDisk)
        self.score.kills[FULL] += 1
        before = [(book, set(book.places), set(book.sizes)) for user in self.users for book in user.volumes.values()]
        self.stand.disk.fill()
        time.sleep(1.5)
        self._kill_kevel()
        self._forgiven = True
        known = [book for book, _, _ in before]
        before += [(book, set(), set()) for user in self.users for book in user.volumes.values() if book not in known]
        for book, places, sizes in before:
            # What was asked for meanwhile may have failed for want of space; what was there before has to stay.
            if book.places != places:
                book.places |= {*places, FREE}
            book.sizes |= sizes
        self._doubt_servers({server_id for user in self.users for server_id in user.servers})

    def _clear_faults(self) -> None:
        """What failed for want of space says so, and can be deleted."""
        client = self.stand.cloud.client
        with contextlib.suppress(KevelError):
            for volume in client.get("/volume/v3/volumes/detail?all_tenants=1")["volumes"]:
                if volume["status"].startswith("error"):
                    self.score.requests["failed for want of space"] += 1
                    for user in self.users:
                        if volume["id"] in user.volumes:
                            user.volumes[volume["id"]].places.add(GONE)
                    client.delete(f"/volume/v3/volumes/{volume['id']}")
            for server in client.get("/compute/v2.1/servers/detail?all_tenants=1")["servers"]:
                if server["status"] == "ERROR" and server["id"] not in self.shared:
                    for user in self.users:
                        if server["id"] in user.servers:
                            user.servers[server["id"]].goals.add("deleted")
                            for book in user.volumes.values():
                                if server["id"] in book.places:
                                    book.places.add(FREE)
                    client.delete(f"/compute/v2.1/servers/{server['id']}")

    def _recover(self, kill: str, following: str) -> None:
        """Start Kevel again after its end, armed with the next failpoint: it may kill during the recovery, too."""
        if kill == POWER:
            assert isinstance(self.stand.disk, LossyDisk)
            self.stand.kill_everything()
            self.stand.disk.restore_power()
        if kill == START:
            self._kill_start()
        if kill == FULL:
            assert isinstance(self.stand.disk, LossyDisk)
            self.stand.kill()
            # What is kept back may be used up; then it refuses to start until there is room.
            try:
                self.stand.start()
            except KevelError:
                self.score.requests["starts refused on a full disk"] += 1
            self.stand.disk.drain()
        self._restart(following if "." in following else "")

    def _restart(self, point: str = "") -> None:
        """Start Kevel, with a point armed if one is named; again, if that has killed it on its way up."""
        self.stand.kill()
        effect = point.removeprefix(failpoints.CHILD).partition(".")[0]
        passes = self.dice.randint(1, PASSES_MAX.get(effect, PASSES))
        self._armed = point
        try:
            self.stand.start(f"{point}=kill@{passes}" if point else "")
        except KevelError:
            self._take_fired()
            self.stand.kill()
            self.stand.start()
        self._forget_dead_guests()

    def _take_fired(self) -> None:
        """Kevel has ended although nobody killed it here: was it the armed point?"""
        if self._armed not in self.stand.spent():
            raise Difference(f"Kevel has ended by itself.\n{self.stand.process.log_tail()}")
        self.score.kills["point"] += 1
        self.score.points[self._armed] += 1
        self._fired, self._armed = self._armed, ""

    # After a kill.

    def _settle(self) -> None:
        """Wait until all accounts agree. Raises Difference when they do not within the bound, or a promise broke."""
        started = time.monotonic()
        while True:
            self._forget_dead_guests()
            if not self.stand.is_alive():
                self._take_fired()
                self._restart()
                started = time.monotonic()
            if self._forgiven:
                self._clear_faults()
            try:
                differences = self.census.find_differences()
            except (KevelError, AssertionError, FileNotFoundError) as error:
                differences = [f"the census could not be taken: {error}"]
            if not differences:
                break
            if time.monotonic() - started > self._settle_s:
                raise Difference(f"after {self._settle_s:g} s:\n{self.census.tell(differences)}")
            time.sleep(LOOK_S)
        self.score.settle_s.append(time.monotonic() - started)
        self._forgiven = False
        if broken := self.census.find_broken():
            raise Difference(self.census.tell(broken))
        self._count()
        self._boot_guests()

    def _count(self) -> None:
        for user in self.users:
            self.score.requests += user.counts
            user.counts.clear()

    def _forget_dead_guests(self) -> None:
        """A guest that has ended sees nothing and writes nothing any more."""
        alive = set(self.stand.guests().values())
        for server_id in self.census.ready - alive:
            self.census.ready.discard(server_id)
            for user in self.users:
                for book in user.volumes.values():
                    if book.session is not None and book.session.server_id == server_id:
                        book.session = None

    def _doubt_servers(self, servers: set[str]) -> None:
        """Their guests have ended without having been asked: Kevel may say that they are stopped."""
        for user in self.users:
            for server_id, book in user.servers.items():
                if server_id in servers:
                    book.goals.add("stopped")

    def _boot_guests(self) -> None:
        """Have the guests run that are looked into."""
        cloud = self.stand.cloud
        down = [server_id for server_id in self.shared if server_id not in self.census.ready]
        try:
            for server_id in down:
                if cloud.server(server_id)["status"] == "SHUTOFF":
                    cloud.client.post(f"/compute/v2.1/servers/{server_id}/action", {"os-start": None})
            for server_id in down:
                cloud.wait_server(server_id, "ACTIVE", WAIT_S)
                self.stand.wait_ready(server_id)
                self.census.ready.add(server_id)
        except KevelError:
            if self.stand.is_alive():
                raise
        if down:
            self._settle()

    def look_with_driver(self) -> None:
        """Stop Kevel and have the driver compare QEMU's block nodes with libvirt's account: none may be left over."""
        self.stand.stop()
        look = [sys.executable, "-m", "tests.torture.look", str(self.stand.data)]
        repo = Path(__file__).resolve().parents[2]
        done = subprocess.run(look, capture_output=True, text=True, timeout=WAIT_S, check=False, cwd=repo)
        if done.returncode != 0:
            raise Difference(f"The driver could not look: {done.stderr}")
        orphans = {view["server_id"]: view["orphans"] for view in json.loads(done.stdout) if view["orphans"]}
        if orphans:
            raise Difference(f"block nodes that no disk accounts for: {orphans}")

    def _delete_everything(self) -> None:
        client = self.stand.cloud.client
        self.census.ready.clear()
        for server in client.get("/compute/v2.1/servers?all_tenants=1")["servers"]:
            client.delete(f"/compute/v2.1/servers/{server['id']}")
        deadline = time.monotonic() + self._settle_s
        while self.census.find_differences() or self.census.records().servers or self.census.records().volumes:
            for volume in client.get("/volume/v3/volumes/detail?all_tenants=1")["volumes"]:
                if volume["status"] == "available":
                    with contextlib.suppress(ApiError):
                        client.delete(f"/volume/v3/volumes/{volume['id']}")
            if time.monotonic() > deadline:
                raise Difference(f"not deleted:\n{self.census.tell(self.census.find_differences())}")
            time.sleep(LOOK_S)
        left = [str(path) for path in (self.stand.data / "libvirt").rglob("*kevel-*")]
        if left:
            raise Difference(f"libvirt's files are left of servers that are deleted: {left}")

    # Users.

    def _log_in(self, name: str) -> ApiClient:
        return ApiClient(self.stand.url, username=name, password=f"of-{name}", project=PROJECT)

    def _create_server(self, name: str, image: str) -> str:
        """A server of the users' project."""
        client = self._log_in(self.users[0].name)
        try:
            return Cloud(client).create_server(name, image=image, flavor="tiny")
        finally:
            client.close()

    def _make_users(self) -> None:
        client = self.stand.cloud.client
        project = client.post("/identity/v3/projects", {"project": {"name": PROJECT}})["project"]["id"]
        (role,) = [one["id"] for one in client.get("/identity/v3/roles")["roles"] if one["name"] == "member"]
        for number in range(USERS):
            name = f"user{number}"
            body = {"user": {"name": name, "password": f"of-{name}", "default_project_id": project}}
            user_id = client.post("/identity/v3/users", body)["user"]["id"]
            answer = client.http.put(f"/identity/v3/projects/{project}/users/{user_id}/roles/{role}")
            answer.raise_for_status()
            own = self._log_in(name)
            token = str(own.http.headers["X-Auth-Token"])
            own.close()
            dice = random.Random(self.dice.random())
            self.users.append(User(self.stand, name, token, dice, self._numbers))
