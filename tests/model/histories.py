"""One seed: concurrent users of a Kevel whose processes die, and whether the model explains what they were told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Final

from tests.model.actions import check_actions
from tests.model.linearizability import Machine, Refused, Watch
from tests.model.model import Place, ServerMachine, VolumeMachine
from tests.model.users import PROJECTS, Users, find_unknown_things
from tests.simulation.faults import Fault
from tests.simulation.run import Run, Setting

SERVERS: Final = 4
VOLUMES: Final = 4
REQUESTS_EACH: Final = 60
SIZE_GIB_MAX: Final = 9
#: Servers and volumes ever made.
THINGS_MAX: Final = 24
#: A disk that a guest has refused to release is asked for again after a while, though nobody waits for it any more.
RETRY_S_MAX: Final = 120.0
#: How guests behave besides being kind. Those of the first two servers are.
TEMPERS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"sim:unplug": "refuse"},
    {"sim:unplug": "lie"},
    {"sim:shutdown": "refuse"},
    {"sim:plug": "refuse"},
)
#: A crash costs time, never state: after these faults nothing may be seen that would not be seen without them.
HARMLESS: Final = frozenset(
    {
        Fault.CRASH_BEFORE,
        Fault.CRASH_AFTER,
        Fault.CRASH_UNDER_WAY,
        Fault.CRASH_OTHER,
        Fault.REFUSED,
        Fault.LOST_REPLY,
        Fault.ROLLED_BACK,
        Fault.UNTOLD,
        Fault.STATEMENT,
        Fault.LOST,
        Fault.REPEATED,
    }
)
#: What ends guests is said to the model by name, so it is no fault at a point.
NEVER: Final = frozenset({Fault.HOST_DIES})
CHANGES: Final = {
    "attach": 9.0,
    "detach": 7.0,
    "start": 2.0,
    "stop": 1.5,
    "reboot_soft": 1.0,
    "reboot_hard": 1.0,
    "pause": 0.6,
    "unpause": 1.0,
    "suspend": 0.6,
    "resume": 1.0,
    "rescue": 0.5,
    "unrescue": 0.8,
    "rebuild": 0.4,
    "resize": 0.6,
    "confirm": 0.5,
    "revert": 0.8,
    "extend": 1.0,
    "lock": 0.2,
    "unlock": 0.5,
    "delete_server": 0.4,
    "delete": 0.15,
    "create": 0.3,
    "create_server": 0.5,
}
LOOKS: Final = {"show": 9.0, "show_server": 5.0, "attached": 2.0, "list": 2.0, "list_servers": 1.0}
USERS: Final = ("ann", "bob", "cid", "root")


def keeps_disks(temper: Mapping[str, str]) -> bool:
    """Does such a guest keep disks that it is asked to release?"""
    return temper.get("sim:unplug") in ("refuse", "lie")


def refuses_disks(temper: Mapping[str, str]) -> bool:
    """Does such a guest take none?"""
    return temper.get("sim:plug") == "refuse"


class HistoryRun:
    """Everything of one seed. Even seeds meet every fault, odd ones only such as cost time."""

    def __init__(self, seed: int, *, requests_each: int = REQUESTS_EACH) -> None:
        self.dice = random.Random(f"{seed} histories")
        self.is_rough = seed % 2 == 0
        setting = Setting(random.Random(f"{seed} setting"))
        setting.lost_host = False
        self.run = Run(seed, setting=setting)
        self.run.faults.chances = {
            fault: chance
            for fault, chance in self.run.faults.chances.items()
            if fault not in NEVER and (self.is_rough or fault in HARMLESS)
        }
        self.users = Users(self.run)
        self.tempers: dict[str, dict[str, str]] = {}
        self._requests_each = requests_each

    def play(self) -> None:
        """The whole of it. Raises AssertionError when the model does not explain something, or it does not end."""
        self.run.play_out(self._play())
        self.check()

    def close(self) -> None:
        self.run.close()

    @property
    def place(self) -> Place:
        """The facts that the machines stand on."""
        projects = self.users.made("create") | self.users.made("create_server")
        return Place(
            projects=projects,
            shared=self.users.shared,
            keepers={server for server, temper in self.tempers.items() if keeps_disks(temper)},
            refusers={server for server, temper in self.tempers.items() if refuses_disks(temper)},
            faulty=self.is_rough,
        )

    def check(self) -> None:
        """Every thing's history against its machine. Raises Refused."""
        place, histories = self.place, self.users.split(self.users.exchanges)
        for verb, make in (("create", VolumeMachine), ("create_server", ServerMachine)):
            for thing in self.users.made(verb):
                machine: Machine = make(thing, place)
                watch = Watch(f"{make.__name__} {thing}", machine)
                watch.follow(histories[thing])
                if not watch.may_rest:
                    raise Refused(f"{thing} does not rest: {watch.states}")

    async def _play(self) -> None:
        for slot in self.run.slots:
            assert await slot.start(), f"{slot.label} does not start"
        await self.users.make_shared_type()
        for number in range(SERVERS):
            await self._make_server(("ann", "bob", "ann", "cid")[number], TEMPERS[0] if number < 2 else None)
        for number in range(VOLUMES):
            await self.users.ask("cid" if number == 3 else "ann", "create", size=1, shared=number == 2)
        await asyncio.sleep(5.0)
        self.run.faults.on = True
        tasks = [self.run.loop.create_task(self._use(user)) for user in USERS]
        await asyncio.wait(tasks)
        for task in tasks:
            task.result()
        await self._calm_down()

    async def _make_server(self, user: str, temper: dict[str, str] | None) -> None:
        reply = await self.users.ask(user, "create_server")
        if reply is None or reply.status != 202:
            return
        server = reply.body["server"]["id"]
        self.tempers[server] = self.dice.choice(TEMPERS) if temper is None else temper
        for host in self.run.world.hosts.values():
            host.hypervisor.temper(server, self.tempers[server])

    async def _use(self, user: str) -> None:
        dice = self.dice
        for _ in range(self._requests_each):
            wanted = LOOKS if dice.random() < 0.5 else CHANGES
            await self._ask(user, dice.choices([*wanted], weights=[*wanted.values()])[0])
            await asyncio.sleep(dice.choice((0.0, 0.003, 0.03, 0.3, dice.random() * 5, dice.random() ** 4 * 60)))
            if dice.random() < 0.02:
                self._befall()

    async def _ask(self, user: str, verb: str) -> None:
        dice = self.dice
        if verb in ("create", "create_server"):
            made = len(self.users.made("create")) + len(self.users.made("create_server"))
            if user == "root" or made > THINGS_MAX:
                return
            if verb == "create_server":
                await self._make_server(user, None)
                return
        server, volume = self._choose(user, verb)
        more: dict[str, object] = {}
        if verb in ("attach", "detach", "show", "extend", "delete"):
            more["volume"] = volume
        if verb in ("create", "extend"):
            more["size"] = dice.randint(1, SIZE_GIB_MAX)
        if verb not in ("create", "show", "extend", "delete", "list", "list_servers"):
            more["server"] = server
        if verb == "attach":
            more["deletes"] = dice.random() < 0.3
        if verb == "create":
            more["shared"] = dice.random() < 0.3
        await self.users.ask(user, verb, **more)

    def _choose(self, user: str, verb: str) -> tuple[str, str]:
        """What the user names: mostly things of its own that are there, and what has been attached lately."""
        dice, users = self.dice, self.users
        if verb == "detach" and dice.random() < 0.8 and (attached := users.attached_lately()):
            return dice.choice(attached)
        chosen: list[str] = []
        project = PROJECTS[user] if user != "root" else PROJECTS[dice.choice(USERS[:-1])]
        for made in (users.made("create_server"), users.made("create")):
            own = [thing for thing, owner in made.items() if owner == project and thing not in users.deleted]
            chosen.append(dice.choice(own if own and dice.random() < 0.9 else [*made]))
        return chosen[0], chosen[1]

    def _befall(self) -> None:
        dice, run = self.dice, self.run
        slot = dice.choice(run.slots)
        if dice.random() < 0.7:
            slot.crash()
            return
        server = dice.choice([*self.users.made("create_server")])
        self.users.note_guest_ends(server)
        for host in run.world.hosts.values():
            host.hypervisor.crash_guest(server)

    async def _calm_down(self) -> None:
        """No more faults: everything ends, and then it is looked at once more."""
        run, users = self.run, self.users
        run.faults.on = False
        run.network.heal()
        await run.until(run.checker.find_unfinished)
        await asyncio.sleep(RETRY_S_MAX)
        for volume in users.made("create"):
            await users.ask("root", "show", volume=volume)
        for server in users.made("create_server"):
            await users.ask("root", "show_server", server=server)
        await users.ask("root", "list")
        await users.ask("root", "list_servers")
        await check_actions(users)
        lost = [one for one in users.exchanges if one.ask.verb.startswith("create") and one.reply is None]
        unknown = find_unknown_things(users)
        assert len(unknown) <= len(lost), f"nobody asked for {unknown}"
