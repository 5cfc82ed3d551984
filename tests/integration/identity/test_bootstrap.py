from __future__ import annotations

from pathlib import Path

import pytest

from kevel.domain.errors import Unauthenticated
from kevel.domain.identity import DomainRef, Endpoint, Project, Role, ScopeKind, Service, UserRef, WantedScope
from tests.integration.identity.world import ORIGIN, MovedClock, open_identity

ADMIN = UserRef(name="admin", domain=DomainRef(id="default"))
HOME = WantedScope(kind=ScopeKind.PROJECT, name="admin", domain=DomainRef(id="default"))


async def test_the_first_start_gives_a_password_and_later_ones_keep_it(tmp_path: Path) -> None:
    clock = MovedClock()
    async with open_identity(tmp_path, clock) as (identity, _):
        password = await identity.bootstrap(ORIGIN)
        assert password is not None
        issued = await identity.log_in_by_password(ADMIN, password, HOME)
    async with open_identity(tmp_path, clock) as (identity, _):
        assert await identity.bootstrap(ORIGIN) is None
        assert (await identity.find_token(issued.secret)).roles == ["admin", "manager", "member", "reader"]
        await identity.log_in_by_password(ADMIN, password, HOME)
        names = {role.name for role in await identity.list_resources(Role, {}, limit=100, marker=None)}
        assert names == {"admin", "manager", "member", "reader", "service"}


async def test_kevels_endpoints_follow_the_address_and_others_stay(tmp_path: Path) -> None:
    clock = MovedClock()
    async with open_identity(tmp_path, clock) as (identity, _):
        await identity.bootstrap(ORIGIN)
        await identity.create_resource(
            Service(id="net", type="network", name="net", description=None, enabled=True, extra={})
        )
        endpoint = Endpoint(
            id="own", service_id="net", interface="public", region_id=None, url="http://net", enabled=True, extra={}
        )
        await identity.create_resource(endpoint)
        (disabled, *_) = await identity.list_resources(Endpoint, {"interface": "admin"}, limit=10, marker=None)
        await identity.change_resource(Endpoint, disabled.id, {"enabled": False})
    async with open_identity(tmp_path, clock) as (identity, _):
        await identity.bootstrap("http://198.51.100.7:80")
        endpoints = await identity.list_resources(Endpoint, {}, limit=100, marker=None)
        assert len(endpoints) == 16
        urls = {item.id: item.url for item in endpoints}
        assert urls.pop("own") == "http://net"
        assert all(url.startswith("http://198.51.100.7:80/") for url in urls.values())
        assert [item.id for item in endpoints if not item.enabled] == [disabled.id]


async def test_a_lost_admin_gets_back_in(tmp_path: Path) -> None:
    async with open_identity(tmp_path, MovedClock()) as (identity, _):
        password = await identity.bootstrap(ORIGIN)
        assert password is not None
        issued = await identity.log_in_by_password(ADMIN, password, HOME)
        await identity.change_user(issued.description.token.user_id, {"enabled": False}, None)
        with pytest.raises(Unauthenticated):
            await identity.log_in_by_password(ADMIN, password, HOME)
        restored = await identity.restore_admin()
        assert restored != password
        again = await identity.log_in_by_password(ADMIN, restored, HOME)
        assert again.description.token.user_id == issued.description.token.user_id
        with pytest.raises(Unauthenticated):
            await identity.find_token(issued.secret)
        await identity.delete_resource(Project, again.description.token.project_id or "")
        await identity.log_in_by_password(ADMIN, await identity.restore_admin(), HOME)
