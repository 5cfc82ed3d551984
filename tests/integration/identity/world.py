"""Identity behind its HTTP API, on a store of its own, with a clock that tests move."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx

from kevel.api.identity import API
from kevel.control.hosts.services import Services
from kevel.control.identity.identity import CACHED_TOKENS_MAX, Identity
from kevel.control.identity.passwords import PasswordCost
from kevel.control.runtime import Runtime
from kevel.runtime.ports import SystemIds, ThreadExecutor
from kevel.store.transactions import Store
from tests.answers import CheckedApp
from tests.integration.stores import open_store

ORIGIN = "http://192.0.2.1:8774"
SECOND_US = 1_000_000
#: Hashing is the library's business; tests of ours need it quick.
QUICK = PasswordCost(memory_kib=8, passes=1)


class MovedClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.at_us = 1_800_000_000 * SECOND_US

    def now_us(self) -> int:
        return self.at_us

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.at_us += int(seconds * SECOND_US)


class World:
    """The use cases, and an HTTP client of the API with the admin's token."""

    def __init__(self, identity: Identity, store: Store, clock: MovedClock, http: httpx.AsyncClient) -> None:
        self.identity = identity
        self.store = store
        self.clock = clock
        self.http = http
        self.admin_password = ""
        self.admin_token = ""

    async def call(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> httpx.Response:
        """One request below /identity/v3, as admin unless another token is given ("" for none)."""
        secret = self.admin_token if token is None else token
        headers = {"X-Auth-Token": secret} if secret else {}
        return await self.http.request(method, f"/identity/v3{path}", json=body, headers=headers)

    async def get(self, path: str, *, token: str | None = None) -> Any:
        """The body of a GET that has to succeed."""
        answer = await self.call("GET", path, token=token)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def create(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Create a resource as admin; its body."""
        answer = await self.call("POST", f"/{kind}s", {kind: fields})
        assert answer.status_code == 201, answer.text
        return cast("dict[str, Any]", answer.json()[kind])

    async def create_member(self, name: str, *, role: str = "member") -> tuple[dict[str, Any], dict[str, Any]]:
        """A user with the password "pw-" and the name, and the role in a project of the same name."""
        project = await self.create("project", name=name)
        user = await self.create("user", name=name, password=f"pw-{name}")
        await self.assign(user["id"], project["id"], role)
        return user, project

    async def role_id(self, name: str) -> str:
        """The id of a role."""
        return cast("str", (await self.get(f"/roles?name={name}"))["roles"][0]["id"])

    async def assign(self, user_id: str, project_id: str, role: str) -> None:
        """Give the user the role in the project."""
        path = f"/projects/{project_id}/users/{user_id}/roles/{await self.role_id(role)}"
        assert (await self.call("PUT", path)).status_code == 204

    async def log_in(self, name: str, password: str, scope: Any = None, *, query: str = "") -> httpx.Response:
        """A login by password, in the default domain."""
        user = {"name": name, "domain": {"id": "default"}, "password": password}
        return await self.authenticate({"methods": ["password"], "password": {"user": user}}, scope, query=query)

    async def authenticate(self, identity: Any, scope: Any = None, *, query: str = "") -> httpx.Response:
        """A login with this identity part."""
        auth = {"identity": identity} | ({} if scope is None else {"scope": scope})
        return await self.call("POST", f"/auth/tokens{query}", {"auth": auth}, token="")

    async def token_of(self, name: str, *, scoped: bool = True) -> str:
        """A token of somebody whom `create_member` made, for the project of that name unless `scoped` is false."""
        scope = {"project": {"name": name, "domain": {"name": "Default"}}} if scoped else "unscoped"
        answer = await self.log_in(name, f"pw-{name}", scope)
        assert answer.status_code == 201, answer.text
        return answer.headers["X-Subject-Token"]

    async def is_valid(self, token: str) -> bool:
        """Does a request with that token pass?"""
        return (await self.call("GET", "/auth/projects", token=token)).status_code == 200


@asynccontextmanager
async def open_identity(
    directory: Path, clock: MovedClock, *, cached_tokens_max: int = CACHED_TOKENS_MAX
) -> AsyncIterator[tuple[Identity, Store]]:
    """The use cases on the database in that directory."""

    def fail(error: BaseException) -> None:
        raise AssertionError("store lost") from error

    executor = ThreadExecutor("test", 2)
    try:
        async with open_store(directory, fail) as store:
            runtime = Runtime(store=store, clock=clock, ids=SystemIds(), executor=executor)
            yield Identity(runtime, cached_tokens_max=cached_tokens_max, password_cost=QUICK), store
    finally:
        executor.close()


@asynccontextmanager
async def open_world(directory: Path, *, cached_tokens_max: int = CACHED_TOKENS_MAX) -> AsyncIterator[World]:
    """A fresh start, with an admin's token."""
    clock = MovedClock()
    async with open_identity(directory, clock, cached_tokens_max=cached_tokens_max) as (identity, store):
        services = cast("Services", SimpleNamespace(identity=identity, runtime=identity._runtime))
        transport = httpx.ASGITransport(CheckedApp(API, services))
        async with httpx.AsyncClient(transport=transport, base_url="http://kevel.test") as http:
            world = World(identity, store, clock, http)
            world.admin_password = await identity.bootstrap(ORIGIN) or ""
            scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
            world.admin_token = (await world.log_in("admin", world.admin_password, scope)).headers["X-Subject-Token"]
            yield world
