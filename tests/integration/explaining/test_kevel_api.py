"""/kevel/v1: attachments that explain themselves, over rows that tests move by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from kevel.api.kevel import API
from kevel.control.attachments.explaining import HOST_LOOK_S_MAX, Explaining
from kevel.control.hosts import comparison
from kevel.control.hosts.comparison import Comparison
from kevel.control.hosts.hosts import Hosts
from kevel.control.runtime import Runtime
from kevel.control.secrets import Sealer
from kevel.domain.assignments import DiskSight, HostCensus
from kevel.domain.ladder import Rung
from kevel.domain.limits import Limits
from kevel.storage.sim import SimBackend
from kevel.store.assignments import changes_for_host
from kevel.store.attachments import load_path
from kevel.store.transactions import Tx, Wake
from tests.integration.control.test_path_worker import SteppedClock
from tests.integration.stand import PROJECTS, make_app, make_client, open_runtime
from tests.integration.store import journal_fold
from tests.integration.store.life import FREE, Life
from tests.integration.store.rows import insert_ground
from tests.things import SECOND

SECRET = "sealed connection_info"
NOBODYS = "00000000-0000-4000-8000-000000000000"


class Stand:
    """The API, the rows of one server and its attachments, and what the reconciler would say."""

    def __init__(self, opened: Runtime, free: frozenset[Rung]) -> None:
        self.clock = SteppedClock()
        runtime = Runtime(store=opened.store, clock=self.clock, ids=opened.ids, executor=opened.executor)
        self.runtime = runtime
        self.free = free
        backend = SimBackend("sim", total_bytes=1 << 40, effect_free=free)
        self.next_looks: dict[str, float] = {}
        self.hosts = Hosts(runtime, {"sim": backend}, Sealer(bytes(64)), Limits())
        self.comparison = Comparison(runtime, {"sim": backend})
        explaining = Explaining(runtime, {"sim": backend}, Limits(sweep_every_s=7.0), self.next_looks.get)
        self.app = make_app(API, runtime, explaining=explaining, comparison=self.comparison)
        self.clients: dict[str, httpx.AsyncClient] = {}
        self.woken: list[Wake] = []
        self.ids: list[str] = []
        runtime.store.subscribe(self.woken.extend)

    async def live(self, *steps: str | Callable[[Life], object]) -> None:
        """Let those things happen to the newest attachment, at the clock's time."""

        def run(tx: Tx) -> None:
            life = Life(tx, self.free)
            life.ids, life.at = self.ids, self.clock.now
            for step in steps:
                getattr(life, step)() if isinstance(step, str) else step(life)
            self.clock.now = life.tick()

        await self.runtime.store.write(run)

    async def call(self, method: str, path: str, caller: str = "member") -> httpx.Response:
        return await self.clients[caller].request(method, path)

    async def shown(self, name: str = "a0", caller: str = "member") -> dict[str, Any]:
        answer = await self.call("GET", f"/attachments/{name}", caller)
        assert answer.status_code == 200, answer.text
        assert SECRET not in answer.text
        found: dict[str, Any] = answer.json()["attachment"]
        return found

    async def layers(self) -> str:
        (path,) = (await self.shown())["paths"]
        return " ".join(f"{one['name']}:{one['observed']}" for one in path["layers"])

    async def ids_of(self, query: str, caller: str = "member") -> list[str]:
        answer = await self.call("GET", f"/attachments{query}", caller)
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()["attachments"]]


@pytest.fixture(params=[frozenset(), FREE], ids=["effects", "effect-free"])
async def stand(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(open_runtime(tmp_path))
        made = Stand(runtime, request.param)
        await runtime.store.write(insert_ground)
        for name in PROJECTS:
            made.clients[name] = await stack.enter_async_context(make_client(made.app, name))
        yield made


def message(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    ((_, inner),) = answer.json().items()
    assert inner["code"] == status
    return str(inner["message"])


async def test_an_attachment_shows_what_is_wanted_and_why_it_is_not_so_yet(stand: Stand) -> None:
    await stand.live("attach")
    shown = await stand.shown()
    assert (shown["status"], shown["goal"], shown["finished"]) == ("attaching", "attached", False)
    waits_for, rung = ("host", "exported") if stand.free else ("storage", "reserved")
    assert (shown["waits_for"], shown["paths"][0]["rung"]) == (waits_for, rung)
    assert f"waits for {'host here' if stand.free else 'the storage'}" in shown["why"]
    assert shown["since"] >= shown["goal_at"]
    await stand.live("settle")
    shown = await stand.shown()
    assert (shown["status"], shown["finished"], shown["waits_for"]) == ("attached", True, "nobody")
    assert shown["why"] == "The volume is attached: the guest has the disk."
    assert (shown["next_try_at"], shown["next_try_within_s"]) == (None, None)


async def test_a_last_error_is_shown_with_what_it_holds_up(stand: Stand) -> None:
    await stand.live("attach", lambda life: [life.step() for _ in range(0 if stand.free else 1)])
    await stand.live(lambda life: life.fail("plug_failed", final=False))
    shown = await stand.shown()
    assert shown["paths"][0]["last_error"]["message"] == "It would not."
    assert shown["why"].endswith("; the last try failed: It would not.")


async def test_layers_are_what_was_last_seen_of_each(stand: Stand) -> None:
    await stand.live("attach")
    if stand.free:
        first = "record:exported export:not_needed connection:not_needed guest_persistent:unknown guest_live:unknown"
    else:
        first = "record:reserved export:unknown connection:absent guest_persistent:absent guest_live:absent"
    assert await stand.layers() == first
    await stand.live("settle")
    word = "not_needed" if stand.free else "present"
    top = f"record:plugged export:{word} connection:{word} guest_persistent:present guest_live:present"
    assert await stand.layers() == top
    path = await stand.runtime.store.read(load_path, "path-a0")
    assert path is not None
    sight = DiskSight(path_id=path.id, revision=path.revision, live=False, persistent=True)
    census = HostCensus(sequence=1, number=0, servers=1, disks=(sight,), differing=(), strangers=())
    await stand.hosts.take_census("here", 1, census)
    assert await stand.layers() == top.replace("guest_live:present", "guest_live:absent")
    live = (await stand.shown())["paths"][0]["layers"][-1]
    assert (live["desired"], live["by"], live["how"]) == ("present", "host:here", "census")
    assert live["at"] == stand.clock.now


async def test_the_storages_own_list_is_shown_where_exports_are_things(stand: Stand) -> None:
    await stand.live("attach", "settle")
    await stand.comparison.compare_storage()
    export = (await stand.shown())["paths"][0]["layers"][1]
    if stand.free:
        assert (export["observed"], export["at"]) == ("not_needed", None)
    else:
        assert (export["observed"], export["by"]) == ("absent", "storage:sim"), "nobody has made it but the records"


async def test_when_it_is_tried_next_is_exact_for_the_control_plane_and_bounded_for_a_host(stand: Stand) -> None:
    await stand.live("attach")
    shown = await stand.shown()
    if stand.free:
        assert (shown["next_try_at"], shown["next_try_within_s"]) == (None, HOST_LOOK_S_MAX)
        return
    assert (shown["next_try_at"], shown["next_try_within_s"]) == (None, 7.0)
    stand.next_looks["path-a0"] = 3.5
    shown = await stand.shown()
    assert shown["next_try_within_s"] == 3.5
    assert shown["next_try_at"] == stand.clock.now + 3_500_000


async def test_lists_are_filtered_and_paged_newest_first(stand: Stand) -> None:
    await stand.live("attach", "settle", "detach", "settle", "attach")
    assert await stand.ids_of("") == ["a1"]
    assert await stand.ids_of("?closed=true") == ["a1", "a0"]
    assert await stand.ids_of("?closed=true&volume_id=volume&server_id=server") == ["a1", "a0"]
    assert await stand.ids_of("?closed=true&volume_id=other") == []
    assert await stand.ids_of("?unfinished=true") == ["a1"]
    page = (await stand.call("GET", "/attachments?closed=true&limit=1")).json()
    assert [one["id"] for one in page["attachments"]] == ["a1"]
    assert "marker=a1" in page["attachments_links"][0]["href"]
    assert await stand.ids_of("?closed=true&limit=1&marker=a1") == ["a0"]
    await stand.live("settle")
    assert await stand.ids_of("?unfinished=true") == []
    await stand.live("detach")
    assert await stand.ids_of("?unfinished=true") == ["a1"]
    for query in ("?limit=0", "?limit=x", "?stray=1", "?unfinished=perhaps"):
        message(await stand.call("GET", f"/attachments{query}"), 400)
    message(await stand.call("GET", f"/attachments?marker={NOBODYS}"), 404)


async def test_s9_another_projects_attachment_does_not_exist(stand: Stand) -> None:
    await stand.live("attach")
    for method, path in (("GET", ""), ("GET", "/journal"), ("POST", "/retry")):
        message(await stand.call(method, f"/attachments/a0{path}", "other"), 404)
    message(await stand.call("GET", "/servers/server/attachments", "other"), 404)
    assert await stand.ids_of("", "other") == []
    assert await stand.ids_of("?all_projects=true", "other") == []
    assert await stand.ids_of("?all_projects=true", "admin") == ["a0"]
    message(await stand.call("GET", f"/attachments/{NOBODYS}"), 404)


async def test_the_journal_is_read_from_any_line_on(stand: Stand) -> None:
    await stand.live("attach", "settle")
    lines = (await stand.call("GET", "/attachments/a0/journal")).json()["journal"]
    assert [line["seq"] for line in lines] == sorted(line["seq"] for line in lines)
    assert (lines[0]["what"], lines[0]["after"]) == ("goal", "attached")
    assert lines[-1]["after"] == "plugged"
    assert all(line["actor"] and line["request_id"] for line in lines)
    rest = await stand.call("GET", f"/attachments/a0/journal?since={lines[1]['seq']}&limit=2")
    assert rest.json()["journal"] == lines[2:4]
    for query in ("since=-1", "wait=99", "limit=0", "stray=1"):
        message(await stand.call("GET", f"/attachments/a0/journal?{query}"), 400)


async def test_whoever_waits_for_the_journal_gets_its_next_line_at_once(stand: Stand) -> None:
    await stand.live("attach")
    lines = (await stand.call("GET", "/attachments/a0/journal")).json()["journal"]
    path = f"/attachments/a0/journal?since={lines[-1]['seq']}&wait=20"
    waiting = asyncio.create_task(stand.call("GET", path))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await stand.live("step")
    answer = await asyncio.wait_for(waiting, 5)
    assert len(answer.json()["journal"]) >= 1
    short = await stand.call("GET", f"/attachments/a0/journal?since={answer.json()['journal'][-1]['seq']}&wait=0.05")
    assert short.json()["journal"] == []


async def test_when_too_many_wait_one_more_is_answered_at_once(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kevel.control.attachments.explaining.WAITERS_MAX", 0)
    await stand.live("attach")
    lines = (await stand.call("GET", "/attachments/a0/journal")).json()["journal"]
    path = f"/attachments/a0/journal?since={lines[-1]['seq']}&wait=30"
    answer = await asyncio.wait_for(stand.call("GET", path), 5)
    assert answer.json()["journal"] == []


async def test_a_silent_host_and_a_missed_deadline_are_said(stand: Stand) -> None:
    await stand.live("attach", "settle", "detach")
    shown = await stand.shown()
    assert (shown["overdue"], shown["waits_for"]) == (False, "guest")
    stand.clock.now = shown["deadline_at"] + 60 * SECOND
    shown = await stand.shown()
    assert (shown["overdue"], shown["waits_for"]) == (True, "host")
    assert shown["why"] == "The detach waits for host here, which does not answer."
    found = (await stand.call("GET", "/doctor", "admin")).json()["examination"]["findings"]
    assert [one["kind"] for one in found] == ["host_silent", "overdue"]
    assert found[1]["remedy"].endswith("`kevel attachment why a0` says what it waits for.")


async def test_a_retry_wakes_the_control_plane_and_brings_the_host_the_same_once_more(stand: Stand) -> None:
    await stand.live("attach")

    def opened(path_id: str, raw: bytes) -> dict[str, Any]:
        return {}

    def changes(tx: Tx, since: int) -> Any:
        return changes_for_host(tx, "here", since, opened, {"sim": stand.free})

    before = await stand.runtime.store.read(changes, 0)
    stand.woken.clear()
    assert (await stand.call("POST", "/attachments/a0/retry")).status_code == 202
    assert Wake("host", "here") in stand.woken
    assert (Wake("path", "path-a0") in stand.woken) is not bool(stand.free), "whoever holds it is woken"
    again = await stand.runtime.store.read(changes, before.version)
    assert (again.paths, again.servers) == (before.paths, before.servers)
    lines = (await stand.call("GET", "/attachments/a0/journal")).json()["journal"]
    assert (lines[-1]["what"], lines[-1]["actor"]) == ("retry", "user:u-member")
    await stand.runtime.store.read(journal_fold.assert_equal, "a0")


async def test_a_retry_is_for_members_and_for_what_is_open(stand: Stand) -> None:
    await stand.live("attach", "settle", "detach")
    assert "Policy" in message(await stand.call("POST", "/attachments/a0/retry", "reader"), 403)
    await stand.live("settle")
    assert "closed" in message(await stand.call("POST", "/attachments/a0/retry"), 409)
    shown = await stand.shown(caller="reader")
    assert (shown["status"], shown["paths"]) == ("detached", [])
    assert shown["why"] == "The volume is detached, and nothing is left of the attachment."


async def test_a_servers_attachments_stay_readable_when_it_is_gone(stand: Stand) -> None:
    await stand.live("attach", "settle", "delete_server", "host_removed_server", "settle")
    answer = await stand.call("GET", "/servers/server/attachments")
    (shown,) = answer.json()["attachments"]
    assert (shown["id"], shown["status"], shown["goal_by"]) == ("a0", "detached", "server")


async def test_only_admins_ask_the_doctor_and_its_findings_have_words(stand: Stand) -> None:
    await stand.live("attach", "settle")
    for method in ("GET", "POST"):
        message(await stand.call(method, "/doctor"), 403)
    known = (await stand.call("GET", "/doctor", "admin")).json()["examination"]
    assert (known["findings"], known["needs_person"]) == ([], False)
    await stand.comparison.compare_storage()
    known = (await stand.call("GET", "/doctor", "admin")).json()["examination"]
    assert [one["subject"] for one in known["censuses"]] == ["storage:sim"]
    kinds = [one["kind"] for one in known["findings"]]
    assert kinds == (["volume_gone"] if stand.free else ["volume_gone", "export_missing"])
    assert known["needs_person"] is True
    assert known["findings"][0]["text"] == "Volume volume is recorded, and storage sim no longer has it."
    assert known["findings"][0]["remedy"].startswith("Bring it back")


async def test_the_doctor_compares_now_and_names_the_hosts_that_do_not_answer(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stand.live("attach", "settle")
    monkeypatch.setattr(comparison, "ANSWER_WAIT_S", 1.0)
    answer = await stand.call("POST", "/doctor", "admin")
    assert answer.status_code == 200, answer.text
    kinds = {one["kind"] for one in answer.json()["examination"]["findings"]}
    assert {"volume_gone", "host_silent"} <= kinds


async def test_discovery_needs_no_token(stand: Stand) -> None:
    answer = await stand.clients["member"].get("http://kevel.test/kevel", headers={"X-Auth-Token": ""})
    assert answer.status_code == 300
    assert answer.json()["versions"]
