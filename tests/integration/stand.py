"""A store in a directory and one API before it, with tokens that stand for callers: what tests of an API need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import msgspec

from kevel.api.dispatch import ApiApp
from kevel.api.operations import Api
from kevel.control.hosts.services import Services
from kevel.control.runtime import Runtime
from kevel.domain.errors import Unauthenticated
from kevel.runtime.ports import SystemClock, SystemIds, ThreadExecutor
from tests.answers import CheckedApp
from tests.integration.stores import open_store

PROJECTS = {"reader": "11" * 16, "member": "11" * 16, "other": "22" * 16, "admin": "33" * 16, "service": "44" * 16}


class KnownToken(msgspec.Struct, frozen=True):
    """As much of a token as the dispatcher reads."""

    user_id: str
    user_name: str
    user_domain_id: str
    project_id: str | None
    roles: tuple[str, ...]


class KnownTokens:
    """Stands in for identity: a caller's name is its token. Each has the role of its name; `other` is a member."""

    async def find_token(self, secret: str) -> KnownToken:
        if secret == "unscoped":
            return KnownToken("u-unscoped", "unscoped", "default", None, ("admin",))
        if secret not in PROJECTS:
            raise Unauthenticated
        role = "member" if secret == "other" else secret
        return KnownToken(f"u-{secret}", secret, "default", PROJECTS[secret], (role,))


@asynccontextmanager
async def open_runtime(data: Path) -> AsyncIterator[Runtime]:
    """Clock, ids, threads, and a store at the newest schema in that directory."""
    lost: list[BaseException] = []
    executor = ThreadExecutor("test", 4)
    try:
        async with open_store(data, lost.append) as store:
            yield Runtime(store=store, clock=SystemClock(), ids=SystemIds(), executor=executor)
    finally:
        executor.close()
    assert not lost, "the store was lost"


def make_app(api: Api, runtime: Runtime, **services: Any) -> ApiApp:
    """The API with these services and no others; it fails when it answers what its table does not say."""
    known = SimpleNamespace(runtime=runtime, identity=KnownTokens(), **services)
    return CheckedApp(api, cast("Services", known))


def make_client(app: ApiApp, caller: str, **headers: str) -> httpx.AsyncClient:
    """A client that calls the app as that caller."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url=f"http://kevel.test{app.api.prefix}",
        headers={"X-Auth-Token": caller, **headers},
    )
