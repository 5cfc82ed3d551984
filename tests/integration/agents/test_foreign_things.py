"""S11: a host's certificate reaches its own host's things; every other one's look like things that are not there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import select

from kevel.api.agents.verbs import VERBS
from kevel.domain.agents import CensusNews, CopyNews, Reports, SwapNews
from kevel.domain.assignments import (
    CopyReport,
    DiskSight,
    Failure,
    HostCensus,
    PathReport,
    ServerReport,
    ServerSight,
    Stranger,
    SwapReport,
)
from kevel.domain.copies import CopyState
from kevel.domain.ladder import Hands, Rung
from kevel.domain.model import Path, Reason, Server, ServerRung, Subject
from kevel.domain.swaps import Swap, SwapState
from kevel.store.attachments import find_open, live_paths
from kevel.store.copies import order_copy
from kevel.store.schema import metadata
from kevel.store.servers import load_server
from kevel.store.swaps import insert_swap
from kevel.store.transactions import Tx
from tests.integration.agents.conftest import Speaker, Stand

NOTHING = "00000000-0000-4000-8000-000000000000"
SWAP = "22222222-0000-4000-8000-000000000000"
COPY = "11111111-0000-4000-8000-000000000000"
#: What a host may change of itself: when it was last heard of, and its own comparison.
ITS_OWN = frozenset({"hosts", "censuses"})
REASON = Reason(code="x", message="It failed.", at=1)


class Things(msgspec.Struct):
    """What the other host has."""

    server: Server
    path: Path


def dump(tx: Tx) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table.name: sorted((tuple(row) for row in tx.execute(select(table))), key=repr)
        for table in metadata.sorted_tables
        if table.name not in ITS_OWN
    }


async def lay_out(stand: Stand) -> Things:
    """A server with a volume and a copy under way, all of the host `first`."""
    host, volume = await stand.add("first"), await stand.make_volume()
    server = await stand.make_server(host="first")
    await stand.until_server(server, "ACTIVE")
    await stand.attach(server, volume)
    await stand.until_volume(volume, "in-use")
    await host.stop()

    def read(tx: Tx) -> Things:
        attachment = find_open(tx, server_id=server, volume_id=volume)
        known = load_server(tx, server)
        assert attachment is not None
        assert known is not None
        (path,) = live_paths(tx, attachment.id)
        order_copy(
            tx,
            copy_id=COPY,
            subject=Subject.SNAPSHOT,
            subject_id=NOTHING,
            path=path,
            target_path="/nowhere",
            at=1,
            deadline_at=1,
        )
        insert_swap(
            tx,
            Swap(
                id=SWAP,
                attachment_id=attachment.id,
                aside_id=attachment.id,
                server_id=server,
                host="first",
                old_volume_id=volume,
                new_volume_id=volume,
                state=SwapState.COPYING,
                revision=1,
                done_bytes=0,
                total_bytes=0,
                reason=None,
                request_id="req-1",
                created_at=1,
                deadline_at=1,
                finished_at=None,
            ),
        )
        return Things(known, path)

    return await stand.services.runtime.store.write(read)


def requests(things: Things, epochs: tuple[int, ...], *, real: bool) -> Iterator[tuple[str, Any]]:
    """Every verb that names a thing, on each thing, with every value it could be moved to."""
    server = things.server.id if real else NOTHING
    path, copy = (things.path.id, COPY) if real else (NOTHING, NOTHING)
    failures = (None, Failure(reason=REASON, final=True))
    for epoch, rung, hands, failure in itertools.product(epochs, Rung, Hands, failures):
        told = PathReport(
            path_id=path, revision=things.path.revision, goal_revision=1, rung=rung, hands=hands, failure=failure
        )
        yield "report", Reports(epoch=epoch, paths=(told,))
    for epoch, stands, failure in itertools.product(epochs, ServerRung, failures):
        seen = ServerReport(
            server_id=server,
            revision=things.server.revision,
            goal_revision=things.server.goal_revision,
            rung=stands,
            boot=things.server.boot,
            failure=failure,
        )
        yield "report", Reports(epoch=epoch, servers=(seen,))
    for epoch, state in itertools.product(epochs, CopyState):
        copied = CopyReport(copy_id=copy, revision=1, state=state, done_bytes=1, total_bytes=1)
        yield "copy", CopyNews(epoch=epoch, report=copied)
    for epoch, progress in itertools.product(epochs, SwapState):
        swapped = SwapReport(swap_id=SWAP if real else NOTHING, revision=1, state=progress, total_bytes=1)
        yield "swap", SwapNews(epoch=epoch, report=swapped)
    for number, epoch in enumerate(epochs):
        disk = DiskSight(path_id=path, revision=things.path.revision, live=False, persistent=False)
        yield (
            "census",
            CensusNews(
                epoch=epoch,
                census=HostCensus(
                    sequence=1000 * real + number + 1,
                    number=0,
                    servers=0,
                    disks=(disk,),
                    differing=(ServerSight(server_id=server, revision=things.server.revision, runs=False),),
                    strangers=(),
                ),
            ),
        )


async def register(speaker: Speaker, place: str = "there") -> int:
    body = {"place": place, "instance": "i", "availability_zone": "nova", "facts": {}}
    answer = await speaker.ask("register", body | {"reach": {"images": True, "pools": ["directory"]}})
    assert answer.status_code == 200, answer.text
    epoch: int = answer.json()["epoch"]
    return epoch


async def test_another_hosts_things_look_like_things_that_are_not_there(stand: Stand) -> None:
    things = await lay_out(stand)
    async with stand.speaking(await stand.credential("second")) as speaker:
        own = await register(speaker)
        before = await stand.services.runtime.store.read(dump)
        asked = 0
        foreign, absent = (requests(things, (own, own + 1), real=real) for real in (True, False))
        for (verb, about_it), (_, about_nothing) in zip(foreign, absent, strict=True):
            # A census of nothing has to come first, to be as new as the other was.
            answers = [await speaker.ask(verb, body) for body in (about_nothing, about_it)]
            assert answers[0].status_code == answers[1].status_code, (verb, about_it)
            assert answers[0].content == answers[1].content, (verb, about_it)
            if verb != "census":
                assert answers[1].status_code in (404, 409), (verb, about_it)
            asked += 1
        assert asked > 60
        assert await stand.services.runtime.store.read(dump) == before


async def test_a_poll_brings_nothing_of_another_host(stand: Stand) -> None:
    things = await lay_out(stand)
    async with stand.speaking(await stand.credential("second")) as speaker:
        epoch = await register(speaker)
        answer = await speaker.ask("changes", {"epoch": epoch, "instance": "i", "since": 0})
    assert answer.status_code == 200
    assert (answer.json()["servers"], answer.json()["paths"], answer.json()["copies"]) == ([], [], [])
    assert things.server.id not in answer.text


async def test_a_stranger_that_is_another_hosts_server_is_one_that_nobody_knows(stand: Stand) -> None:
    things = await lay_out(stand)
    async with stand.speaking(await stand.credential("second")) as speaker:
        epoch = await register(speaker)
        strangers = (Stranger(server_id=things.server.id), Stranger(server_id=NOTHING))
        census = HostCensus(sequence=1, number=0, servers=2, disks=(), differing=(), strangers=strangers)
        await speaker.ask("census", CensusNews(epoch=epoch, census=census))
    found = (await stand.services.comparison.known()).findings
    of_host = [one for one in found if one.subject == "host:second"]
    assert {(one.kind.value, one.server_id) for one in of_host} == {("server_unknown", None)}


async def test_no_verb_takes_the_name_of_a_host() -> None:
    for verb in VERBS:
        if verb.body is not None:
            assert "host" not in {field.name for field in msgspec.structs.fields(verb.body)}, verb.path
