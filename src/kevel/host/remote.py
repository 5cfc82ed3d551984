"""The control plane as an agent on another machine has it: the same calls, over HTTPS with the host's certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import httpx
import msgspec
import structlog

from kevel.domain.agents import (
    LEASE_S,
    REPORTS_MAX,
    CensusNews,
    ControlSilent,
    CopyNews,
    Credential,
    Dismissed,
    Heard,
    HostSettings,
    Poll,
    Reach,
    ReachNews,
    Registered,
    Registration,
    Reports,
    RotateRequest,
    SwapNews,
)
from kevel.domain.assignments import Assignments, CopyReport, HostCensus, PathReport, ServerReport, SwapReport
from kevel.domain.errors import KevelError, NotFound
from kevel.domain.questions import Answer
from kevel.host.credential import HEADERS, NAMED, read_refusal

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: An answer takes no longer than this, besides what a poll is held for.
ANSWER_S: Final = 20.0
POLL_S: Final = 60.0
#: Pause after a request that has to succeed and was not answered.
AGAIN_S: Final = 1.0
_FENCED: Final = "fenced"


class _Waiting(NamedTuple):
    """A report, and who waits for it to be heard."""

    epoch: int
    report: ServerReport | PathReport
    heard: asyncio.Future[None]


class RemoteControl:
    """Implements `kevel.host.state.ControlPlane`. `dismissed` is done once the control plane hears it no more."""

    def __init__(self, address: str, context: ssl.SSLContext, *, place: str, instance: str) -> None:
        """`place`: where this agent is; `instance`: this run of it."""
        self._url = f"https://{address}/agent/v1/"
        self._address = address
        self._http = self._make_client(context)
        self._place = place
        self._instance = instance
        loop = asyncio.get_running_loop()
        self._now = loop.time
        self._answered_at = -LEASE_S
        self._epoch = 0
        self.dismissed: asyncio.Future[Dismissed] = loop.create_future()
        #: What the host reaches now; the agent's watch keeps it.
        self.reach = Reach(images=False, pools=())
        self._waiting: list[_Waiting] = []
        self._sender: asyncio.Task[None] | None = None

    @staticmethod
    def _make_client(context: ssl.SSLContext) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=context, trust_env=False, timeout=ANSWER_S, headers=HEADERS)

    def has_lease(self) -> bool:
        """Has the control plane answered lately?"""
        return self._now() - self._answered_at < LEASE_S

    async def replace_credential(self, context: ssl.SSLContext) -> None:
        """Show another certificate from now on."""
        old, self._http = self._http, self._make_client(context)
        await old.aclose()

    async def close(self) -> None:
        """Stop."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        await self._http.aclose()

    async def _ask(self, verb: str, body: Any, answer: type[T], *, timeout_s: float = ANSWER_S) -> T:
        """Ask once. Raises ControlSilent, NotFound, Dismissed, or KevelError for another refusal."""
        http, began = self._http, self._now()
        content = b"" if body is None else msgspec.json.encode(body)
        try:
            found = await http.post(self._url + verb, content=content, extensions=NAMED, timeout=timeout_s)
        except (httpx.TransportError, RuntimeError) as error:
            # RuntimeError: the client was closed, since the certificate is another one by now.
            if isinstance(error, RuntimeError) and http is self._http:
                raise
            told = f"The control plane at {self._address} does not answer ({type(error).__name__})."
            raise ControlSilent(told) from error
        if found.is_success:
            # The lease counts from before the request: what the control plane knew then.
            self._answered_at = max(self._answered_at, began)
            return msgspec.json.decode(found.content, type=answer)
        raise self._refusal(found, http)

    def _refusal(self, found: httpx.Response, http: httpx.AsyncClient) -> KevelError:
        code, message = read_refusal(found)
        if found.status_code == 404:
            return NotFound(message)
        if found.status_code >= 500 or http is not self._http:
            return ControlSilent(f"The control plane failed to answer: {message}")
        if found.status_code == 401 or (found.status_code == 409 and code == _FENCED):
            error = Dismissed(message)
            if not self.dismissed.done():
                self.dismissed.set_result(error)
            return error
        return KevelError(f"The control plane refused: {message}")

    async def read_settings(self) -> HostSettings:
        """What has to be known before registering."""
        return await self._ask("settings", None, HostSettings)

    async def wait_settings(self) -> HostSettings:
        """The same; waits for a control plane that does not answer, for as long as it takes."""
        return await self._until_answered(self.read_settings)

    async def _until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        told = False
        while True:
            try:
                return await ask()
            except ControlSilent as error:
                if not told:
                    log.warning("the control plane is waited for", reason=error.message)
                    told = True
                await asyncio.sleep(AGAIN_S)

    async def register(self, host: str, *, availability_zone: str, facts: Mapping[str, Any]) -> int:
        """See the port. Waits for a control plane that does not answer."""
        new = Registration(
            place=self._place,
            instance=self._instance,
            availability_zone=availability_zone,
            facts=dict(facts),
            reach=self.reach,
        )
        self._epoch = (await self._until_answered(lambda: self._ask("register", new, Registered))).epoch
        return self._epoch

    async def changes(self, host: str, since: int) -> Assignments:
        """See the port."""
        poll = Poll(epoch=self._epoch, instance=self._instance, since=since)
        return await self._ask("changes", poll, Assignments, timeout_s=POLL_S)

    async def report(
        self, host: str, epoch: int, servers: tuple[ServerReport, ...], paths: tuple[PathReport, ...]
    ) -> None:
        """See the port. Reports that come while others are on their way go together with the next request."""
        loop = asyncio.get_running_loop()
        reports: list[ServerReport | PathReport] = [*servers, *paths]
        mine = [_Waiting(epoch, report, loop.create_future()) for report in reports]
        self._waiting += mine
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send(), name="agent-reports")
        for one in mine:
            await one.heard

    async def _send(self) -> None:
        while self._waiting:
            epoch = self._waiting[0].epoch
            batch = [one for one in self._waiting if one.epoch == epoch][:REPORTS_MAX]
            self._waiting = [one for one in self._waiting if one not in batch]
            try:
                await self._send_batch(epoch, batch)
            except Exception as error:
                if not isinstance(error, KevelError):
                    log.exception("reports could not be sent")
                _fail(batch, error if isinstance(error, KevelError) else ControlSilent())
            except BaseException:
                _fail(batch + self._waiting, ControlSilent("The agent stops."))
                raise

    async def _send_batch(self, epoch: int, batch: list[_Waiting]) -> None:
        reports = Reports(
            epoch=epoch,
            servers=tuple(one.report for one in batch if isinstance(one.report, ServerReport)),
            paths=tuple(one.report for one in batch if isinstance(one.report, PathReport)),
        )
        answer = await self._ask("report", reports, Heard)
        for one in batch:
            key = one.report.server_id if isinstance(one.report, ServerReport) else one.report.path_id
            if one.heard.done():
                continue  # its caller waits no more
            if key in answer.not_found:
                one.heard.set_exception(NotFound("The control plane has no such thing of this host."))
            else:
                one.heard.set_result(None)

    async def report_copy(self, host: str, epoch: int, report: CopyReport) -> None:
        """See the port."""
        await self._ask("copy", CopyNews(epoch=epoch, report=report), Heard)

    async def report_swap(self, host: str, epoch: int, report: SwapReport) -> None:
        """See the port."""
        await self._ask("swap", SwapNews(epoch=epoch, report=report), Heard)

    async def take_census(self, host: str, epoch: int, census: HostCensus) -> None:
        """See the port."""
        await self._ask("census", CensusNews(epoch=epoch, census=census), Heard)

    async def answer(self, host: str, answer: Answer) -> None:
        """See the port."""
        await self._ask("answer", answer, Heard)

    async def tell_reach(self, reach: Reach) -> None:
        """What the host reaches has changed."""
        if self._epoch:
            await self._ask("reach", ReachNews(epoch=self._epoch, reach=reach), Heard)
        self.reach = reach

    async def rotate(self, request: str) -> Credential:
        """A certificate for another key."""
        return await self._ask("credential", RotateRequest(request=request), Credential)


def _fail(batch: list[_Waiting], error: KevelError) -> None:
    for one in batch:
        if not one.heard.done():
            one.heard.set_exception(error)
            one.heard.exception()  # retrieved: its caller may be gone
