"""The compute API over a store in a temporary directory; tests say themselves what the host's agent saw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path as Directory
from typing import Any

import httpx
import msgspec
import pytest

from kevel.api.compute import API
from kevel.control.attachments.attachments import Attachments
from kevel.control.attachments.paths import PathWorker
from kevel.control.copies.image_worker import ImageWorker
from kevel.control.copies.snapshots import Snapshots
from kevel.control.hosts.hosts import Hosts
from kevel.control.hosts.readings import Readings
from kevel.control.images.images import Images
from kevel.control.pools.pools import Pools
from kevel.control.runtime import Runtime
from kevel.control.secrets import Sealer
from kevel.control.servers.disks import ServerDisks
from kevel.control.servers.flavors import Flavors
from kevel.control.servers.groups import ServerGroups
from kevel.control.servers.imaging import Imaging
from kevel.control.servers.keypairs import Keypairs
from kevel.control.servers.past import Past
from kevel.control.servers.quotas import ServerQuotas
from kevel.control.servers.servers import Servers
from kevel.control.servers.shelving import Shelving
from kevel.control.volume_types.types import VolumeTypes
from kevel.control.volumes.volumes import Volumes
from kevel.domain.assignments import CopyAssignment, CopyReport, Failure, PathReport, ServerReport
from kevel.domain.copies import CopyState
from kevel.domain.ladder import Hands, Rung
from kevel.domain.limits import Limits
from kevel.domain.model import Actor, Path, Reason, ServerRung, Snapshot, Volume
from kevel.domain.placement import HOST_SILENT_S
from kevel.domain.questions import Answer, Look, Sight
from kevel.storage.image_files import ImageFiles
from kevel.storage.sim import SimBackend
from kevel.store.assignments import changes_for_host
from kevel.store.attachments import find_open, live_paths
from kevel.store.copies import apply_copy_report
from kevel.store.hosts import register_host, touch_host
from kevel.store.path_reports import apply_path_report
from kevel.store.server_rows import apply_server_report
from kevel.store.servers import load_server
from kevel.store.snapshots import insert_snapshot
from kevel.store.transactions import Tx
from kevel.store.volume_lists import VolumeFilter
from kevel.store.volume_types import VolumeType, insert_type
from kevel.store.volumes import insert_volume
from tests.integration.stand import PROJECTS, make_app, make_client, open_runtime

HOST = "host-1"
IMAGES_MAX = 20
FACTS = {
    "hypervisor_type": "QEMU",
    "hypervisor_version": 7002000,
    "hostname": "host-1.example",
    "vcpus": 2,
    "memory_mib": 2048,
    "max_volumes": 4,
    "disk_gib": 100,
    "host_ip": "127.0.0.1",
}
#: Exporting and connecting have no effect, as with files on the host.
EFFECT_FREE = {"sim": frozenset((Rung.EXPORTED, Rung.CONNECTED))}
MEMBER = Actor(user_id="u-member", project_id=PROJECTS["member"], request_id="req-test")


async def _bytes() -> AsyncIterator[bytes]:
    yield bytes(1024)


class Stand:
    """The API's clients by caller, and what the rest of Kevel would do."""

    def __init__(
        self,
        runtime: Runtime,
        images: Images,
        volumes: Volumes,
        backend: SimBackend,
        hosts: Hosts,
        past: Past,
        clients: dict[str, httpx.AsyncClient],
    ) -> None:
        self.runtime = runtime
        self.images = images
        self.volumes = volumes
        self.backend = backend
        self.hosts = hosts
        self.past = past
        self.actor = MEMBER
        self.clients = clients
        self.image_id = ""
        self.image_worker: ImageWorker
        #: As where shelved servers keep their place until they are offloaded.
        self.keeping: Shelving

    @property
    def now(self) -> int:
        return self.runtime.clock.now_us()

    async def call(
        self, method: str, path: str, body: object = None, *, caller: str = "member", version: str | None = None
    ) -> httpx.Response:
        headers = {} if version is None else {"OpenStack-API-Version": f"compute {version}"}
        return await self.clients[caller].request(method, path, json=body, headers=headers)

    async def make_image(self, **values: Any) -> str:
        wanted = {"name": "disk", "disk_format": "raw", "container_format": "bare", **values}
        image = await self.images.create(MEMBER, None, wanted)
        await self.images.upload(MEMBER, image.id, _bytes())
        return image.id

    async def ask_server(self, *, caller: str = "member", version: str = "2.100", **keys: Any) -> httpx.Response:
        """POST a server that would be fine, but for the keys given; a key of None is left out."""
        body = {"name": "web", "flavorRef": "tiny", "imageRef": self.image_id, "networks": "none", **keys}
        body = {name: value for name, value in body.items() if value is not None}
        return await self.call("POST", "/servers", {"server": body}, caller=caller, version=version)

    async def make_server(self, rung: ServerRung | None = ServerRung.RUNNING, **keys: Any) -> str:
        """A server that its host has brought to that rung (None: has not heard of yet)."""
        answer = await self.ask_server(**keys)
        assert answer.status_code == 202, answer.text
        server_id: str = answer.json()["server"]["id"]
        if rung is not None:
            await self.host_saw(server_id, rung)
        return server_id

    async def host_saw(
        self, server_id: str, rung: ServerRung, *, ended: Reason | None = None, made: bool = False
    ) -> None:
        """The host's agent reports the server on that rung, with every wanted boot; `made`: it made the domain anew."""
        await self.runtime.store.write(_report_server, server_id, rung, ended, made, self.now)

    @asynccontextmanager
    async def host_sees(self, sight: Sight) -> AsyncIterator[list[Look]]:
        """The host's agent answers every question so; the looks that it was asked for."""
        asked: list[Look] = []

        async def answer() -> None:
            since = 0
            while True:
                found = await self.hosts.changes(HOST, since)
                since = found.version
                for question in found.questions:
                    asked.append(question.look)
                    await self.hosts.answer(HOST, Answer(question_id=question.id, sight=sight))

        task = asyncio.create_task(answer())
        try:
            yield asked
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def silence_host(self) -> None:
        """The host has not been heard of for a while."""
        await self.runtime.store.write(touch_host, HOST, self.now - (HOST_SILENT_S + 1) * 1_000_000)

    async def host_failed(self, server_id: str) -> None:
        """The host's agent reports that a step for the server, as it was asked to be last, has failed for good."""
        await self.runtime.store.write(_report_server_failure, server_id, self.now)

    async def host_removed(self, server_id: str) -> None:
        """The host's agent reports that nothing of a deleted server is there."""
        await self.runtime.store.write(_report_server, server_id, ServerRung.PLACED, None, False, self.now)

    async def host_refused(self, server_id: str, volume_id: str, why: str) -> None:
        """The host's agent reports that the volume's path, where it stands, will get no further."""
        await self.runtime.store.write(_report_path_failure, server_id, volume_id, why, self.now)

    async def make_volume(self, *, project: str = "member", multiattach: bool = False, bootable: bool = False) -> str:
        volume_id = self.runtime.ids.uuid()
        await self.runtime.store.write(
            _insert_volume,
            volume_id,
            self.now,
            project_id=PROJECTS[project],
            multiattach=multiattach,
            bootable=bootable,
        )
        return volume_id

    async def make_snapshot(self, *, bootable: bool = False, of_volume: str | None = None) -> str:
        """A snapshot that is there; without a volume named, of a new one."""
        snapshot_id, of_volume = self.runtime.ids.uuid(), of_volume or await self.make_volume()
        await self.runtime.store.write(_insert_snapshot, snapshot_id, of_volume, bootable, self.now)
        return snapshot_id

    async def look_at_path(self, server_id: str, volume_id: str) -> None:
        """The control plane looks once at the path of that volume."""
        worker = PathWorker(self.runtime, {"sim": self.backend}, Sealer(bytes(64)), Limits())
        path = await self.runtime.store.read(_find_path, server_id, volume_id)
        await worker.look(path.id)

    async def look_at_images(self) -> None:
        """The control plane looks once at every image with something to do."""
        for image_id in await self.image_worker.unfinished():
            await self.image_worker.look(image_id)

    async def host_copied(self, *, failed: str | None = None) -> None:
        """The host's agent has copied the root disks that it was asked for, or says why it will not."""
        await self.look_at_images()
        found = await self.runtime.store.read(_find_copies)
        for copy in found:
            if failed is None:
                Directory(copy.target_path).write_bytes(b"what the guest wrote")
            await self.runtime.store.write(_report_copy, copy, failed, self.now)
        await self.look_at_images()

    async def rung_of(self, server_id: str, volume_id: str) -> Rung:
        """Where the path of that volume stands."""
        return (await self.runtime.store.read(_find_path, server_id, volume_id)).rung

    async def waits_for(self, server_id: str) -> set[str]:
        """The volumes without which the host does not start the server."""
        return await self.runtime.store.read(_boot_disks, server_id)

    async def count_volumes(self) -> int:
        """Volumes of all projects."""
        return (await self.volumes.summarize(VolumeFilter(project_id=None))).count

    async def attach(self, server_id: str, volume_id: str, **keys: Any) -> httpx.Response:
        body = {"volumeAttachment": {"volumeId": volume_id} | keys}
        return await self.call("POST", f"/servers/{server_id}/os-volume_attachments", body, version="2.89")

    async def host_moved(self, server_id: str, volume_id: str, rung: Rung) -> None:
        """The host's agent reports the path of that attachment on that rung."""
        await self.runtime.store.write(_report_path, server_id, volume_id, rung, self.now)


def _find_copies(tx: Tx) -> tuple[CopyAssignment, ...]:
    found = changes_for_host(tx, HOST, 0, lambda name, sealed: {}, EFFECT_FREE)
    return tuple(copy for copy in found.copies if copy.state is CopyState.WANTED)


def _report_copy(tx: Tx, copy: CopyAssignment, failed: str | None, at: int) -> None:
    report = CopyReport(
        copy_id=copy.id,
        revision=copy.revision,
        state=CopyState.DONE if failed is None else CopyState.FAILED,
        done_bytes=20,
        total_bytes=20,
        reason=None if failed is None else Reason(code="copy_failed", message=failed, at=at),
    )
    assert apply_copy_report(tx, HOST, 1, report, at=at)


def _report_server(tx: Tx, server_id: str, rung: ServerRung, ended: Reason | None, made: bool, at: int) -> None:
    server = load_server(tx, server_id)
    assert server is not None
    report = ServerReport(
        server_id=server_id,
        revision=server.revision,
        goal_revision=server.goal_revision,
        rung=rung,
        boot=server.wanted_boot if rung is ServerRung.RUNNING else server.boot,
        ended=ended,
        shape=server.wanted_shape if made else None,
    )
    assert apply_server_report(tx, HOST, 1, report, at)


def _report_server_failure(tx: Tx, server_id: str, at: int) -> None:
    server = load_server(tx, server_id)
    assert server is not None
    report = ServerReport(
        server_id=server_id,
        revision=server.revision,
        goal_revision=server.goal_revision,
        rung=server.rung,
        boot=server.boot,
        failure=Failure(reason=Reason(code="server_failed", message="It would not.", at=at), final=True),
    )
    assert apply_server_report(tx, HOST, 1, report, at)


def _report_path(tx: Tx, server_id: str, volume_id: str, rung: Rung, at: int) -> None:
    attachment = find_open(tx, server_id=server_id, volume_id=volume_id)
    assert attachment is not None
    (path,) = live_paths(tx, attachment.id)
    report = PathReport(
        path_id=path.id,
        revision=path.revision,
        goal_revision=attachment.goal_revision,
        rung=rung,
        hands=Hands.HOST if rung > Rung.EXPORTED else Hands.CONTROL,
    )
    assert apply_path_report(tx, HOST, 1, report, at=at, refusal_deadline_at=at, effect_free=EFFECT_FREE)


def _report_path_failure(tx: Tx, server_id: str, volume_id: str, why: str, at: int) -> None:
    path, attachment = _find_path(tx, server_id, volume_id), find_open(tx, server_id=server_id, volume_id=volume_id)
    assert attachment is not None
    report = PathReport(
        path_id=path.id,
        revision=path.revision,
        goal_revision=attachment.goal_revision,
        rung=path.rung,
        hands=path.hands,
        failure=Failure(reason=Reason(code="plug_failed", message=why, at=at), final=True),
    )
    assert apply_path_report(tx, HOST, 1, report, at=at, refusal_deadline_at=at, effect_free=EFFECT_FREE)


def _find_path(tx: Tx, server_id: str, volume_id: str) -> Path:
    attachment = find_open(tx, server_id=server_id, volume_id=volume_id)
    assert attachment is not None
    (path,) = live_paths(tx, attachment.id)
    return path


def _boot_disks(tx: Tx, server_id: str) -> set[str]:
    found = changes_for_host(tx, HOST, 0, lambda name, sealed: {}, EFFECT_FREE)
    (server,) = [server for server in found.servers if server.id == server_id]
    return set(server.boot_disks.values())


def _insert_snapshot(tx: Tx, snapshot_id: str, volume_id: str, bootable: bool, at: int) -> None:
    insert_snapshot(
        tx,
        Snapshot(
            id=snapshot_id,
            volume_id=volume_id,
            project_id=PROJECTS["member"],
            user_id="u",
            name="shot",
            description=None,
            size_gib=1,
            backend="sim",
            format="raw",
            metadata={},
            bootable=bootable,
            made=True,
            created_at=at,
        ),
    )


def _insert_volume(tx: Tx, volume_id: str, at: int, *, project_id: str, multiattach: bool, bootable: bool) -> None:
    insert_volume(
        tx,
        Volume(
            id=volume_id,
            project_id=project_id,
            user_id="u",
            name="data",
            description=None,
            size_gib=1,
            volume_type_id="t",
            backend="sim",
            format="raw",
            availability_zone="nova",
            metadata={},
            bootable=bootable,
            readonly=False,
            multiattach=multiattach,
            made=True,
            fault=None,
            mask=None,
            generation=0,
            created_at=at,
            updated_at=None,
            deleted_at=None,
        ),
    )


def _enter_host_and_type(tx: Tx, at: int) -> None:
    register_host(tx, name=HOST, availability_zone="nova", facts=FACTS, at=at)
    volume_type = VolumeType(
        id="t", name="std", description=None, is_public=True, extra_specs={}, created_at=at, updated_at=None
    )
    insert_type(tx, volume_type)


@pytest.fixture
async def stand(tmp_path: Directory) -> AsyncIterator[Stand]:
    limits = Limits(page_rows_max=10, answer_wait_s=30.0, images_per_project_max=IMAGES_MAX)
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(open_runtime(tmp_path))
        files = ImageFiles(tmp_path)
        images, flavors = Images(runtime, files, limits), Flavors(runtime)
        await images.open()
        await flavors.bootstrap()
        await VolumeTypes(runtime).bootstrap()
        await runtime.store.write(_enter_host_and_type, runtime.clock.now_us())
        backend = SimBackend("sim", total_bytes=1 << 40, effect_free=EFFECT_FREE["sim"])
        pools = Pools(runtime, {"sim": backend}, limits, host=HOST, availability_zone="nova")
        volumes = Volumes(runtime, pools, limits)
        attachments = Attachments(runtime, {"sim": backend}, Sealer(bytes(64)), limits)
        hosts = Hosts(runtime, {"sim": backend}, Sealer(bytes(64)), limits)
        past = Past(runtime, limits)
        app = make_app(
            API,
            runtime,
            images=images,
            flavors=flavors,
            servers=Servers(runtime, images, flavors, ServerDisks(volumes, attachments, runtime.ids, limits), limits),
            readings=Readings(runtime, hosts.questions),
            past=past,
            keypairs=Keypairs(runtime),
            server_quotas=ServerQuotas(runtime),
            server_groups=ServerGroups(runtime),
            pools=pools,
            volumes=volumes,
            snapshots=Snapshots(runtime, limits),
            attachments=attachments,
            imaging=Imaging(runtime, files, limits),
            shelving=Shelving(runtime, attachments, files, limits),
        )
        names = (*PROJECTS, "unscoped")
        clients = {name: await stack.enter_async_context(make_client(app, name)) for name in names}
        made = Stand(runtime, images, volumes, backend, hosts, past, clients)
        made.image_worker = ImageWorker(runtime, files)
        made.keeping = Shelving(runtime, attachments, files, limits, offloads=False)
        made.image_id = await made.make_image()
        yield made


def message(answer: httpx.Response) -> str:
    """The message of an error, whose body has Nova's shape."""
    ((name, inner),) = answer.json().items()
    assert inner["code"] == answer.status_code
    assert name in ("badRequest", "forbidden", "itemNotFound", "conflictingRequest", "computeFault")
    return str(inner["message"])


def decode(raw: bytes) -> Any:
    return msgspec.json.decode(raw)
