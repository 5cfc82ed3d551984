"""The real `openstack` command against identity on a loopback port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn

from kevel.api.identity import API
from kevel.control.hosts.services import Services
from kevel.runtime.ports import SystemClock
from tests.answers import CheckedApp
from tests.integration.identity.world import MovedClock, open_identity
from tests.openstack_command import CommandFailed, Openstack


class Cli:
    """Runs the command as somebody, beside the server in this process."""

    def __init__(self, credentials: dict[str, str]) -> None:
        self._command = Openstack(credentials)

    async def run(self, *words: str) -> str:
        """Standard output of a command that has to succeed."""
        return await asyncio.to_thread(self._command.run, *words)

    async def show(self, *words: str) -> Any:
        """The same, as JSON."""
        return await asyncio.to_thread(self._command.json, *words)

    async def close(self) -> None:
        """End its process."""
        await asyncio.to_thread(self._command.close)


class Served:
    """Where identity is served, and as whom one enters first."""

    def __init__(self, origin: str, password: str) -> None:
        self.auth_url = f"{origin}/identity/v3"
        self._entered: list[Cli] = []
        self.admin = self.enter(self.by_password("admin", password, "admin"))

    def enter(self, credentials: dict[str, str]) -> Cli:
        """The command as somebody else, until `close`."""
        self._entered.append(Cli(credentials))
        return self._entered[-1]

    async def close(self) -> None:
        """End the commands' processes."""
        for cli in self._entered:
            await cli.close()

    def by_password(self, user: str, password: str, project: str) -> dict[str, str]:
        """What a user's openrc says."""
        return {
            "OS_AUTH_URL": self.auth_url,
            "OS_IDENTITY_API_VERSION": "3",
            "OS_USERNAME": user,
            "OS_PASSWORD": password,
            "OS_USER_DOMAIN_NAME": "Default",
            "OS_PROJECT_NAME": project,
            "OS_PROJECT_DOMAIN_NAME": "Default",
        }


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_identity(tmp_path, cast("MovedClock", SystemClock())) as (identity, _):
        services = cast("Services", SimpleNamespace(identity=identity, runtime=identity._runtime))
        app = CheckedApp(API, services)
        config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_level="warning")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            assert not task.done(), "the server ended"
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        origin = f"http://127.0.0.1:{port}"
        password = await identity.bootstrap(origin)
        assert password is not None
        made = Served(origin, password)
        yield made
        await made.close()
        server.should_exit = True
        await task


async def test_an_admin_sets_up_a_project_with_a_user_and_a_service(served: Served) -> None:
    admin = served.admin
    token = await admin.show("token", "issue")
    catalog = await admin.show("catalog", "list")
    assert {entry["Type"] for entry in catalog} == {"identity", "compute", "block-storage", "volumev3", "image"}
    project = await admin.show("project", "create", "ships", "--description", "all of them")
    assert (await admin.show("project", "show", "ships"))["id"] == project["id"]
    user = await admin.show("user", "create", "ann", "--password", "pw", "--project", "ships", "--email", "a@b.c")
    assert (await admin.run("role", "add", "--user", "ann", "--project", "ships", "member")) == ""
    listed = await admin.show("role", "assignment", "list", "--user", "ann", "--names")
    assert [(item["Role"], item["User"], item["Project"]) for item in listed] == [
        ("member", "ann@Default", "ships@Default")
    ]
    assert [item["Name"] for item in await admin.show("user", "list", "--project", "ships")] == ["ann"]
    service = await admin.show("service", "create", "network", "--name", "net")
    words = ("endpoint", "create", "--region", "RegionOne", "network", "public", "http://127.0.0.1:1")
    assert (await admin.show(*words))["service_id"] == service["id"]
    endpoints = await admin.show("endpoint", "list", "--service", "net")
    assert [item["URL"] for item in endpoints] == ["http://127.0.0.1:1"]
    assert token["user_id"] != user["id"]


async def test_a_user_makes_an_application_credential_and_enters_with_it(served: Served) -> None:
    admin = served.admin
    await admin.run("project", "create", "ships")
    await admin.run("user", "create", "ann", "--password", "pw")
    await admin.run("role", "add", "--user", "ann", "--project", "ships", "member")
    ann = served.enter(served.by_password("ann", "pw", "ships"))
    credential = await ann.show("application", "credential", "create", "ci", "--role", "reader")
    entered = served.enter(
        {
            "OS_AUTH_TYPE": "v3applicationcredential",
            "OS_AUTH_URL": served.auth_url,
            "OS_APPLICATION_CREDENTIAL_ID": credential["ID"],
            "OS_APPLICATION_CREDENTIAL_SECRET": credential["Secret"],
        }
    )
    token = await entered.show("token", "issue")
    assert token["project_id"] == credential["Project ID"]
    assert (await ann.run("application", "credential", "delete", "ci")) == ""
    with pytest.raises(CommandFailed, match="HTTP 401"):
        await entered.run("token", "issue")
