"""Who is let in: an agent without a certificate, with a wrong, expired, revoked or superseded one, and with its own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest

from kevel.api.agents.verbs import VERBS
from kevel.cli.agent import join_once, renew_credential
from kevel.cli.config import AgentConfig
from kevel.control.hosts.authority import Authority, make_authority, read_request
from kevel.domain.agents import Dismissed, read_join_token
from kevel.domain.errors import Conflict, Invalid, SetupError
from kevel.host.credential import AgentKey, CredentialFile, join_control
from kevel.runtime.ports import SystemClock
from tests.integration.agents.conftest import Speaker, Stand

DAY_US = 86_400_000_000
CLOSED = [verb.path.rpartition("/")[2] for verb in VERBS if not verb.is_open]


class LateClock:
    """The machine's clock, so many days ago."""

    def __init__(self, days: int) -> None:
        self._days = days

    def now_us(self) -> int:
        return SystemClock().now_us() - self._days * DAY_US


def forge(stand: Stand, authority: Authority, host: str = "first") -> CredentialFile:
    """A certificate of that host that some authority has signed and no record names."""
    key = AgentKey()
    issued = authority.issue(host, read_request(key.request))
    return CredentialFile(
        host=host,
        control=stand.address,
        key=key.pem.decode(),
        certificate=issued.certificate,
        authority=stand.services.fleet.authority.certificate,
    )


@asynccontextmanager
async def speaking_bare(stand: Stand) -> AsyncIterator[Speaker]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=stand.services.fleet.authority.certificate)
    async with httpx.AsyncClient(verify=context, trust_env=False) as http:
        yield Speaker(http, stand.address)


async def test_without_a_certificate_nobody_gets_further_than_joining(stand: Stand) -> None:
    async with speaking_bare(stand) as speaker:
        for verb in CLOSED:
            answer = await speaker.ask(verb, {})
            assert answer.status_code == 401, verb
        assert (await speaker.ask("authority")).status_code == 200
        assert (await speaker.ask("join", {"secret": "00", "request": AgentKey().request})).status_code == 401


async def test_a_certificate_of_another_authority_ends_the_handshake(stand: Stand) -> None:
    other = Authority(make_authority(SystemClock()), SystemClock())
    async with stand.speaking(forge(stand, other)) as speaker:
        with pytest.raises(httpx.TransportError):
            await speaker.ask("settings")


async def test_an_expired_certificate_ends_the_handshake(stand: Stand) -> None:
    await stand.credential("first")
    late = Authority(stand.root.joinpath("kevel/agents-authority.pem").read_bytes(), LateClock(days=100))
    async with stand.speaking(forge(stand, late)) as speaker:
        with pytest.raises(httpx.TransportError):
            await speaker.ask("settings")


async def test_a_certificate_that_no_record_names_lets_nobody_in(stand: Stand) -> None:
    """One that was signed before the database was put back to an older state, say."""
    authority = Authority(stand.root.joinpath("kevel/agents-authority.pem").read_bytes(), SystemClock())
    async with stand.speaking(forge(stand, authority)) as speaker:
        answer = await speaker.ask("settings")
    assert (answer.status_code, "not known" in answer.text) == (401, True)


async def test_a_certificate_is_for_the_host_that_it_was_given_to(stand: Stand) -> None:
    async with stand.speaking(await stand.credential("first")) as speaker:
        assert (await speaker.ask("settings")).json()["host"] == "first"


async def test_the_control_plane_has_to_prove_itself_to_agents(stand: Stand) -> None:
    credential = await stand.credential("first")
    other = Authority(make_authority(SystemClock()), SystemClock())
    misled = msgspec.structs.replace(credential, authority=other.certificate)
    async with stand.speaking(misled) as speaker:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await speaker.ask("settings")


async def test_an_agents_certificate_is_not_the_control_planes() -> None:
    authority = Authority(make_authority(SystemClock()), SystemClock())
    with pytest.raises(Invalid, match="cannot be a host's name"):
        authority.issue("a name with spaces", read_request(AgentKey().request))


async def test_a_join_token_is_good_once(stand: Stand) -> None:
    token = read_join_token(await stand.token("first"))
    key = AgentKey()
    first = await join_control(stand.address, token, key)
    again = await join_control(stand.address, token, key)  # the answer was lost, and the key is the same
    assert first.host == again.host == "first"
    with pytest.raises(SetupError, match="unknown, spent, or too old"):
        await join_control(stand.address, token, AgentKey())


async def test_a_later_join_token_voids_an_earlier_one(stand: Stand) -> None:
    earlier = read_join_token(await stand.token("first"))
    await stand.token("first")
    with pytest.raises(SetupError, match="unknown, spent, or too old"):
        await join_control(stand.address, earlier, AgentKey())


async def test_a_join_token_is_sent_to_nobody_but_the_kevel_that_made_it(stand: Stand) -> None:
    token = read_join_token(await stand.token("first"))
    other = msgspec.structs.replace(token, authority="0" * 64)
    with pytest.raises(SetupError, match="nothing was sent to it"):
        await join_control(stand.address, other, AgentKey())


async def test_an_agent_started_again_with_its_token_has_joined_already(stand: Stand) -> None:
    host = await stand.join("first")
    token = await stand.services.fleet.make_join_token("first")
    config = AgentConfig(control=stand.address)
    joined = await join_once(config, host.data, token.token)
    assert await join_once(config, host.data, token.token) == joined == host.credential


async def test_tokens_and_keys_do_not_show_themselves(stand: Stand) -> None:
    token = (await stand.services.fleet.make_join_token("first")).token
    credential = await join_control(stand.address, token, AgentKey())
    assert token.secret not in f"{token!r} {token}"
    assert "PRIVATE" not in f"{credential!r} {credential}"
    database = (stand.root / "kevel/kevel.db").read_bytes() + (stand.root / "kevel/kevel.db-wal").read_bytes()
    assert token.secret.encode() not in database


async def test_the_inside_agents_host_cannot_be_joined(stand: Stand) -> None:
    with pytest.raises(Conflict, match="runs inside this Kevel"):
        await stand.token("local")


async def test_a_revoked_host_is_out_at_once_even_while_it_waits(stand: Stand) -> None:
    host = await stand.add("first")
    server = await stand.make_server(host="first")
    await stand.until_server(server, "ACTIVE")
    await asyncio.sleep(0.1)  # its poll is held
    await stand.services.fleet.revoke("first")
    assert host.control is not None
    with pytest.raises(Dismissed, match="revoked"):
        async with asyncio.timeout(10):
            raise await host.control.dismissed
    async with stand.speaking(host.credential) as speaker:
        for verb in CLOSED:
            assert (await speaker.ask(verb, {})).status_code == 401, verb
    # Its guests go on, and it may join anew.
    assert [view.runs for view in await host.hypervisor.observe_all()] == [True]
    await host.stop()
    made = await stand.services.fleet.make_join_token("first")
    await join_once(AgentConfig(control=stand.address), host.data, made.token)
    await host.start()
    await stand.services.servers.ask(stand.actor, server, "pause")
    await stand.until_server(server, "PAUSED")


async def test_a_renewed_certificate_ends_the_old_one_with_its_first_use(stand: Stand) -> None:
    host = await stand.add("first")
    old = host.credential
    assert host.control is not None
    renewed = await renew_credential(host.control, host.data, old)
    assert host.credential == renewed != old
    server = await stand.make_server(host="first")
    await stand.until_server(server, "ACTIVE")
    assert not host.control.dismissed.done()
    async with stand.speaking(old) as speaker:
        answer = await speaker.ask("settings")
    assert (answer.status_code, "a later one is in use" in answer.text) == (401, True)


async def test_a_certificate_is_renewed_when_two_thirds_of_its_life_are_over(stand: Stand) -> None:
    credential = await stand.credential("first")
    assert not credential.is_due(SystemClock())
    assert not credential.is_due(LateClock(days=-55))
    assert credential.is_due(LateClock(days=-65))


async def test_an_agent_of_another_protocol_is_told_which_is_spoken(stand: Stand) -> None:
    async with stand.speaking(await stand.credential("first")) as speaker:
        for headers in ({}, {"kevel-agent-protocol": "2"}):
            answer = await speaker.ask("settings", headers=headers)
            assert (answer.status_code, "this Kevel speaks 1" in answer.text) == (400, True)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"epoch": "x"}', b"[" * 100_000])
async def test_a_wrong_body_is_told_without_what_was_in_it(stand: Stand, body: bytes) -> None:
    async with stand.speaking(await stand.credential("first")) as speaker:
        answer = await speaker.ask("changes", msgspec.Raw(body))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "refused")


async def test_a_body_that_is_too_large_is_refused(stand: Stand) -> None:
    async with speaking_bare(stand) as speaker:
        answer = await speaker.ask("join", {"secret": "x" * 20_000, "request": ""})
    assert answer.status_code == 413
