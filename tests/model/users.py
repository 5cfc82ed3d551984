"""Users of a simulated Kevel: real HTTP requests into the process of the moment, and a record of what came of them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Mapping
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, cast

import msgspec

from kevel.api.app import KevelApp
from kevel.control.hosts.services import Services
from kevel.domain.errors import Unauthenticated
from tests.integration.stand import KnownToken
from tests.model.linearizability import Operation
from tests.model.model import ADMIN, UNKNOWN, Answer, Request
from tests.simulation.processes import ControlProcess
from tests.simulation.run import Run

PROJECTS: Final = {"ann": "aa" * 16, "bob": "aa" * 16, "cid": "cc" * 16, "root": "ee" * 16}
#: Virtual seconds between two looks at whether a process that has not answered is dead, and the longest wait.
LOOK_S: Final = 0.05
ANSWER_S: Final = 60.0
#: Exchanges that count as late.
LATELY: Final = 200
FETCHES_MAX: Final = 10
#: Name of the type whose volumes several servers may have.
SHARED_TYPE: Final = "shared"
ANY_IMAGE: Final = "00000000-0000-4000-8000-000000000000"
VERSIONS: Final = {"compute": "compute 2.89", "volume": "volume 3.71"}
#: Requests that name no single thing: what they show is split among all things.
LISTS: Final = ("list", "list_servers")


class Reply(NamedTuple):
    """An answer of the application."""

    status: int
    request_id: str
    body: Any


class Tokens:
    """Stands in for identity: a user's name is the token."""

    async def find_token(self, secret: str) -> KnownToken:
        if secret not in PROJECTS:
            raise Unauthenticated
        roles = ("admin",) if secret == "root" else ("member",)
        return KnownToken(f"u-{secret}", secret, "default", PROJECTS[secret], roles)


def make_app(process: ControlProcess) -> KevelApp:
    """The application of one life of the control plane."""
    services = SimpleNamespace(
        runtime=process.runtime,
        identity=Tokens(),
        flavors=process.flavors,
        servers=process.servers,
        pools=process.volumes.pools,
        volumes=process.volumes,
        volume_types=process.types,
        attachments=process.attachments,
        hosts=process.workers.hosts,
    )
    return KevelApp(cast("Services", services))


async def call_app(app: KevelApp, user: str, method: str, path: str, body: object) -> Reply:
    """One HTTP request, as a server would hand it to the application."""
    raw = b"" if body is None else msgspec.json.encode(body)
    path, _, query = path.partition("?")
    headers = {"x-auth-token": user, "host": "kevel", "content-type": "application/json"}
    service = path.split("/")[1]
    headers["openstack-api-version"] = VERSIONS[service]
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "scheme": "http"}
    scope |= {"server": ("kevel", 80), "headers": [(key.encode(), value.encode()) for key, value in headers.items()]}
    sent: list[Mapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent)
    shown = {key.lower(): value.decode() for key, value in sent[0]["headers"]}
    request_id = shown.get(b"x-openstack-request-id", "")
    return Reply(sent[0]["status"], request_id, msgspec.json.decode(answer) if answer else None)


def to_http(ask: Request) -> tuple[str, str, object]:
    """Method, path and body of a request."""
    server, volume = f"/compute/v2.1/servers/{ask.server}", f"/volume/v3/volumes/{ask.volume}"
    attachments = f"{server}/os-volume_attachments"
    simple: dict[str, tuple[str, str, object]] = {
        "create": (
            "POST",
            "/volume/v3/volumes",
            {"volume": {"size": ask.size, "volume_type": SHARED_TYPE if ask.shared else None}},
        ),
        "show": ("GET", volume, None),
        "list": ("GET", "/volume/v3/volumes/detail" + ("?all_tenants=1" if ask.project == ADMIN else ""), None),
        "delete": ("DELETE", volume, None),
        "extend": ("POST", f"{volume}/action", {"os-extend": {"new_size": ask.size}}),
        "create_server": (
            "POST",
            "/compute/v2.1/servers",
            {"server": {"name": "web", "flavorRef": "tiny", "imageRef": ANY_IMAGE, "networks": "none"}},
        ),
        "show_server": ("GET", server, None),
        "list_servers": (
            "GET",
            "/compute/v2.1/servers/detail" + ("?all_tenants=1" if ask.project == ADMIN else ""),
            None,
        ),
        "delete_server": ("DELETE", server, None),
        "attached": ("GET", attachments, None),
        "detach": ("DELETE", f"{attachments}/{ask.volume}", None),
        "attach": (
            "POST",
            attachments,
            {"volumeAttachment": {"volumeId": ask.volume, "delete_on_termination": ask.deletes}},
        ),
        "start": ("POST", f"{server}/action", {"os-start": None}),
        "stop": ("POST", f"{server}/action", {"os-stop": None}),
        "reboot_soft": ("POST", f"{server}/action", {"reboot": {"type": "SOFT"}}),
        "reboot_hard": ("POST", f"{server}/action", {"reboot": {"type": "HARD"}}),
        "pause": ("POST", f"{server}/action", {"pause": None}),
        "unpause": ("POST", f"{server}/action", {"unpause": None}),
        "suspend": ("POST", f"{server}/action", {"suspend": None}),
        "resume": ("POST", f"{server}/action", {"resume": None}),
        "rescue": ("POST", f"{server}/action", {"rescue": None}),
        "unrescue": ("POST", f"{server}/action", {"unrescue": None}),
        "rebuild": ("POST", f"{server}/action", {"rebuild": {"imageRef": ANY_IMAGE}}),
        "resize": ("POST", f"{server}/action", {"resize": {"flavorRef": "1"}}),
        "confirm": ("POST", f"{server}/action", {"confirmResize": None}),
        "revert": ("POST", f"{server}/action", {"revertResize": None}),
        "lock": ("POST", f"{server}/action", {"lock": None}),
        "unlock": ("POST", f"{server}/action", {"unlock": None}),
    }
    return simple[ask.verb]


def look_at_volume(shown: dict[str, Any]) -> tuple[str, int, tuple[str, ...]]:
    """A volume as the model's `looks` has it."""
    return shown["status"], shown["size"], tuple(sorted(one["server_id"] for one in shown["attachments"]))


def look_at_server(shown: dict[str, Any]) -> tuple[str, str | None, bool]:
    """A server as the model's `looks` has it."""
    return shown["status"], shown["OS-EXT-STS:task_state"], shown["locked"]


class Exchange(NamedTuple):
    """One request and what came back; `reply` None: nothing did."""

    ask: Request
    user: str
    called: int
    answered: int
    reply: Reply | None


class Users:
    """Asks, and remembers."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._apps: dict[int, KevelApp] = {}
        self._clock = 0
        self.exchanges: list[Exchange] = []

    def tick(self) -> int:
        """The next moment on the counter by which calls and answers are ordered."""
        self._clock += 1
        return self._clock

    async def ask(self, user: str, verb: str, **more: Any) -> Reply | None:
        """Send a request to the control plane of the moment, and wait for its answer or its death."""
        run = self._run
        while (process := run.control) is None:
            await asyncio.sleep(0.1)
        ask = Request(verb, ADMIN if user == "root" else PROJECTS[user], **more)
        called = self.tick()
        run.tell(user, f"asks: {ask}")
        reply = await self._send(process, user, *to_http(ask))
        run.operations += 1
        run.tell(user, f"has {ask.verb}: {reply}"[:200])
        self.exchanges.append(Exchange(ask, user, called, self.tick(), reply))
        return reply

    @property
    def deleted(self) -> set[str]:
        """Ids of what is to be deleted."""
        asks = {"delete": "volume", "delete_server": "server"}
        return {
            getattr(one.ask, asks[one.ask.verb])
            for one in self.exchanges
            if one.ask.verb in asks and one.reply is not None and one.reply.status < 300
        }

    def attached_lately(self) -> list[tuple[str, str]]:
        """Servers and volumes of the last attaches that were accepted, unless somebody has asked for a detach since."""
        found: list[tuple[str, str]] = []
        for one in self.exchanges[-LATELY:]:
            pair = (one.ask.server, one.ask.volume)
            if one.reply is None or one.reply.status >= 300 or one.ask.verb not in ("attach", "detach"):
                continue
            if one.ask.verb == "attach":
                found.append(pair)
            elif pair in found:
                found.remove(pair)
        return found

    async def make_shared_type(self) -> None:
        """The volume type for requests that say `shared`; nothing fails yet."""
        control = self._run.control
        assert control is not None
        body = {"volume_type": {"name": SHARED_TYPE, "extra_specs": {"multiattach": "<is> True"}}}
        reply = await self._send(control, "root", "POST", "/volume/v3/types", body)
        assert reply is not None, "nobody makes a type"
        assert reply.status == 200, reply

    @property
    def shared(self) -> set[str]:
        """Ids of the volumes that several servers may have at once."""
        return {
            one.reply.body["volume"]["id"]
            for one in self.exchanges
            if one.ask.shared and one.reply is not None and one.reply.status == 202
        }

    async def fetch(self, path: str) -> Reply:
        """What an admin sees at that path; asked again when nobody answers."""
        for _ in range(FETCHES_MAX):
            while (process := self._run.control) is None:
                await asyncio.sleep(0.1)
            reply = await self._send(process, "root", "GET", path, None)
            if reply is not None:
                return reply
        raise AssertionError(f"no answer to GET {path}")

    async def _send(self, process: ControlProcess, user: str, method: str, path: str, body: object) -> Reply | None:
        run = self._run
        app = self._apps.get(process.number)
        if app is None:
            self._apps.clear()
            app = self._apps[process.number] = make_app(process)
        sending: Coroutine[Any, Any, Reply] = call_app(app, user, method, path, body)
        task = run.loop.create_task(sending, context=process.context)
        deadline = run.loop.time() + ANSWER_S
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK_S)
            if process.number in run.loop.dead:
                return None
            assert run.loop.time() < deadline, f"no answer to {method} {path} within {ANSWER_S:g} s, and nobody died"
        return task.result()

    def note_guest_ends(self, server: str) -> None:
        """The guest of that server is made to end, now."""
        request = Request("guest_ends", ADMIN, server=server)
        self.exchanges.append(Exchange(request, "world", self.tick(), self.tick(), Reply(0, "", None)))

    def split(self, exchanges: list[Exchange]) -> dict[str, list[Operation]]:
        """The history of each thing: the requests that name it or show it, with what they say of it."""
        volumes, servers = self.made("create"), self.made("create_server")
        found: dict[str, list[Operation]] = defaultdict(list)
        for exchange in exchanges:
            for thing, answer in _tell_of_things(exchange, volumes, servers):
                found[thing].append(Operation(exchange.ask, answer, exchange.called, exchange.answered))
        return found

    def made(self, verb: str) -> dict[str, str]:
        """Ids of the volumes or servers that were accepted, with their projects."""
        name = "volume" if verb == "create" else "server"
        return {
            one.reply.body[name]["id"]: PROJECTS[one.user]
            for one in self.exchanges
            if one.ask.verb == verb and one.reply is not None and one.reply.status == 202
        }


def _tell_of_things(
    exchange: Exchange, volumes: Mapping[str, str], servers: Mapping[str, str]
) -> list[tuple[str, Answer]]:
    """What an exchange says of each thing that it concerns."""
    ask, reply = exchange.ask, exchange.reply
    if ask.verb in ("create", "create_server"):
        name = "volume" if ask.verb == "create" else "server"
        return [] if reply is None or reply.status != 202 else [(reply.body[name]["id"], Answer(202))]
    if reply is None or reply.status >= 500:
        changes = not ask.verb.startswith(("show", "list")) and ask.verb != "attached"
        concerned = [*volumes, ask.server] if ask.verb == "delete_server" else [ask.server, ask.volume]
        return [(thing, UNKNOWN) for thing in concerned if thing] if changes else []
    if ask.verb in LISTS:
        name, things, look = (
            ("volumes", volumes, look_at_volume) if ask.verb == "list" else ("servers", servers, look_at_server)
        )
        seen = {shown["id"]: look(shown) for shown in reply.body[name]}
        return [(thing, Answer(200, seen=seen.get(thing))) for thing in things]
    if ask.verb == "attached" and reply.status == 200:
        held = {shown["volumeId"] for shown in reply.body["volumeAttachments"]}
        return [(ask.server, Answer(200)), *((one, Answer(200, seen=one in held)) for one in volumes)]
    answer = _read_answer(ask, reply)
    concerned = [*volumes, ask.server] if ask.verb in ("delete_server", "attached") else [ask.server, ask.volume]
    return [(thing, answer) for thing in concerned if thing]


def _read_answer(ask: Request, reply: Reply) -> Answer:
    if reply.status == 404:
        ((_, inner),) = reply.body.items()
        about = "volume" if inner["message"].startswith(f"Volume {ask.volume}") and ask.volume else "server"
        return Answer(404, about)
    if reply.status == 200 and ask.verb == "show":
        return Answer(200, seen=look_at_volume(reply.body["volume"]))
    if reply.status == 200 and ask.verb == "show_server":
        return Answer(200, seen=look_at_server(reply.body["server"]))
    return Answer(reply.status)


def find_unknown_things(users: Users) -> set[str]:
    """Ids that lists show and that nobody was told of: each has to come from a request without an answer."""
    known = set(users.made("create")) | set(users.made("create_server"))
    shown: set[str] = set()
    for exchange in users.exchanges:
        if exchange.ask.verb in LISTS and exchange.reply is not None and exchange.reply.status == 200:
            name = "volumes" if exchange.ask.verb == "list" else "servers"
            shown |= {one["id"] for one in exchange.reply.body[name]}
    return shown - known
