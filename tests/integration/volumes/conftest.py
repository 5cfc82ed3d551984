"""The block storage API over files in a temporary directory; tests let the worker work, and say what the host saw."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from kevel.api.volume import API
from kevel.control.attachments.attachments import Attachments
from kevel.control.attachments.external import External
from kevel.control.attachments.old_flow import OldFlow
from kevel.control.backups.backups import Backups
from kevel.control.backups.worker import BackupWorker
from kevel.control.copies.copies import Copies
from kevel.control.copies.snapshot_worker import SnapshotWorker
from kevel.control.copies.snapshots import Snapshots
from kevel.control.copies.volume_contents import VolumeContents
from kevel.control.groups.group_snapshots import GroupSnapshots
from kevel.control.groups.groups import Groups
from kevel.control.images.images import Images
from kevel.control.messages import Messages
from kevel.control.pools.pools import Pools
from kevel.control.pools.services import VolumeServices
from kevel.control.quotas import Quotas
from kevel.control.runtime import Runtime
from kevel.control.secrets import Sealer
from kevel.control.volume_types.encryptions import TypeEncryptions
from kevel.control.volume_types.group_types import GroupTypes
from kevel.control.volume_types.keys import KeyRing
from kevel.control.volume_types.qos_specs import Qos
from kevel.control.volume_types.types import VolumeTypes
from kevel.control.volumes.managing import Managing
from kevel.control.volumes.pool_moves import PoolMoves
from kevel.control.volumes.transfers import Transfers
from kevel.control.volumes.volumes import Volumes
from kevel.control.volumes.worker import VolumeWorker
from kevel.domain.assignments import PathReport
from kevel.domain.errors import StaleWrite
from kevel.domain.ladder import Hands, Rung
from kevel.domain.limits import Limits
from kevel.domain.model import Actor, BootKind, ServerGoal, ServerRung
from kevel.domain.quotas import QuotaDefaults
from kevel.runtime.log_levels import LogLevels
from kevel.storage.backup_files import BackupFiles
from kevel.storage.base import Capacity
from kevel.storage.directory import DirectoryBackend
from kevel.storage.image_files import ImageFiles
from kevel.store.attachments import find_open, live_paths
from kevel.store.hosts import register_host
from kevel.store.path_reports import apply_path_report
from kevel.store.schema.servers import servers
from kevel.store.transactions import Tx
from tests.integration.stand import PROJECTS, make_app, make_client, open_runtime

HOST = "host-1"
GIB = 1 << 30
MIB = 1 << 20
LOOKS_MAX = 50
NAMES = {
    400: "badRequest",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    412: "computeFault",
    413: "overLimit",
    503: "serviceUnavailable",
}


Worker = VolumeWorker | SnapshotWorker | BackupWorker


class Pool(DirectoryBackend):
    """A directory that says what it can hold as a test wants it."""

    shown: Capacity | None = Capacity(total_bytes=50 * GIB, free_bytes=40 * GIB)

    async def capacity(self) -> Capacity:
        return self.shown if self.shown is not None else await super().capacity()


class World:
    """The API's clients by caller, and what the rest of Kevel would do."""

    def __init__(self, runtime: Runtime, pool: Pool, root: Path) -> None:
        limits = Limits(overcommit_ratio=2.0)
        self.runtime = runtime
        self.pool = pool
        self.root = root
        self.keys = KeyRing(Sealer(bytes(64)), runtime.ids)
        self.backends = {"local": pool}
        self.pools = Pools(runtime, self.backends, limits, host=HOST, availability_zone="nova")
        self.volumes = Volumes(runtime, self.pools, limits, keys=self.keys)
        self.types = VolumeTypes(runtime)
        self.attachments = Attachments(runtime, self.backends, Sealer(bytes(64)), limits)
        self.image_files = ImageFiles(root.parent)
        self.images = Images(runtime, self.image_files, limits)
        self.copies = Copies(runtime)
        self.worker = VolumeWorker(runtime, self.backends, self.copies, self.image_files, self.keys)
        self.snapshot_worker = SnapshotWorker(runtime, self.backends, self.copies)
        self.external = External(runtime, self.backends, Sealer(bytes(64)), limits)
        self.old_flow = OldFlow(runtime, self.external)
        self.backup_files = BackupFiles(root.parent / "backups")
        self.backup_worker = BackupWorker(runtime, self.backends, self.backup_files, self.copies, limits)
        self.app = make_app(
            API,
            runtime,
            pools=self.pools,
            pool_moves=PoolMoves(runtime, self.pools),
            managing=Managing(runtime, self.pools, limits),
            volumes=self.volumes,
            volume_contents=VolumeContents(runtime, self.image_files, limits),
            snapshots=Snapshots(runtime, limits),
            backups=Backups(runtime, self.backup_files, self.volumes, limits, availability_zone="nova"),
            volume_types=self.types,
            attachments=self.attachments,
            external=self.external,
            old_flow=self.old_flow,
            messages=Messages(runtime),
            transfers=Transfers(runtime),
            quotas=Quotas(runtime, QuotaDefaults()),
            group_types=GroupTypes(runtime),
            qos=Qos(runtime),
            volume_services=VolumeServices(runtime, self.pools),
            log_levels=LogLevels(),
            type_encryptions=TypeEncryptions(runtime),
            group_snapshots=GroupSnapshots(runtime, limits),
            groups=Groups(runtime, self.volumes, limits, availability_zone="nova"),
        )
        self.clients: dict[str, httpx.AsyncClient] = {}

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        caller: str = "member",
        version: str | None = "3.71",
        extra: Mapping[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response:
        headers = {} if version is None else {"OpenStack-API-Version": f"volume {version}"}
        headers |= extra or {}
        return await self.clients[caller].request(method, path, json=body, headers=headers, **more)

    async def get(self, path: str, name: str, **more: Any) -> Any:
        """What a GET that succeeds has under that name."""
        answer = await self.call("GET", path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()[name]

    async def ask(self, *, caller: str = "member", version: str = "3.71", **fields: Any) -> httpx.Response:
        """POST a volume of 1 GiB, but for the fields given."""
        return await self.call("POST", "/volumes", {"volume": {"size": 1, **fields}}, caller=caller, version=version)

    async def make(self, *, caller: str = "member", **fields: Any) -> str:
        """A volume that is there."""
        answer = await self.ask(caller=caller, **fields)
        assert answer.status_code == 202, answer.text
        await self.settle()
        volume_id: str = answer.json()["volume"]["id"]
        return volume_id

    async def act(self, volume_id: str, name: str, value: object, **more: Any) -> httpx.Response:
        """POST an action."""
        return await self.call("POST", f"/volumes/{volume_id}/action", {name: value}, **more)

    async def status(self, volume_id: str) -> str:
        shown = await self.get(f"/volumes/{volume_id}", "volume", caller="admin")
        return str(shown["status"])

    async def settle(self) -> None:
        """Let the worker look until nothing is unfinished that a look can finish now."""
        for _ in range(LOOKS_MAX):
            keys = await self.unfinished()
            for worker, key in keys:
                await worker.look(key)
            if await self.unfinished() in ([], keys):
                return
        raise AssertionError("the worker did not settle")

    async def settle_all(self) -> None:
        """Let the workers look until nothing is unfinished; a look whose copy does not count is made again."""
        for _ in range(LOOKS_MAX):
            with suppress(StaleWrite):
                for worker, key in await self.unfinished():
                    await worker.look(key)
            if not await self.unfinished():
                return
        raise AssertionError("the workers did not settle")

    async def unfinished(self) -> list[tuple[Worker, str]]:
        """What has an operation that has not ended, with its worker; snapshots first, since volumes wait for them."""
        found: list[tuple[Worker, str]] = []
        for worker in (self.snapshot_worker, self.backup_worker, self.worker):
            found += [(worker, key) for key in await worker.unfinished()]
        return found

    async def make_snapshot(self, volume_id: str, *, caller: str = "member", **fields: Any) -> str:
        """A snapshot that is there."""
        answer = await self.ask_snapshot(volume_id, caller=caller, **fields)
        assert answer.status_code == 202, answer.text
        await self.settle()
        snapshot_id: str = answer.json()["snapshot"]["id"]
        return snapshot_id

    async def ask_snapshot(
        self, volume_id: str | None, *, caller: str = "member", version: str = "3.71", **fields: Any
    ) -> httpx.Response:
        """POST a snapshot."""
        body = {"snapshot": {"volume_id": volume_id, **fields}}
        return await self.call("POST", "/snapshots", body, caller=caller, version=version)

    async def snapshot_status(self, snapshot_id: str) -> str:
        shown = await self.get(f"/snapshots/{snapshot_id}", "snapshot", caller="admin")
        return str(shown["status"])

    async def make_image(self, start: bytes = b"", *, size_bytes: int = MIB, **values: Any) -> str:
        """An active raw image of the member's."""
        actor = Actor(user_id="u", project_id=PROJECTS["member"], request_id="req-image")
        image = await self.images.create(actor, None, {"disk_format": "raw", "container_format": "bare", **values})

        async def chunks() -> AsyncIterator[bytes]:
            yield start.ljust(size_bytes, b"\0")

        await self.images.upload(actor, image.id, chunks())
        return image.id

    async def image_bytes(self, image_id: str) -> bytes:
        """All bytes of an image of the member's."""
        actor = Actor(user_id="u", project_id=PROJECTS["member"], request_id="req-image")
        found = await self.images.download(actor, image_id)
        assert found.stream is not None, found.image.status
        return b"".join([block async for block in found.stream])

    def write(self, volume_id: str, start: bytes) -> None:
        """Write the first bytes of a volume, as a guest does."""
        with (self.root / f"volume-{volume_id}").open("r+b") as file:
            file.write(start)

    def read(self, volume_id: str, length: int = 8) -> bytes:
        """The first bytes of a volume."""
        with (self.root / f"volume-{volume_id}").open("rb") as file:
            return file.read(length)

    async def make_server(self, project: str = "member") -> str:
        """A running server."""
        server_id = self.runtime.ids.uuid()
        await self.runtime.store.write(_insert_server, server_id, PROJECTS[project], self.runtime.clock.now_us())
        return server_id

    async def attach(self, volume_id: str, rung: Rung = Rung.PLUGGED, *, project: str = "member") -> str:
        """Attach the volume to a new server, up to that rung; the server's id."""
        server_id = await self.make_server(project)
        await self.try_attach(server_id, volume_id, project=project)
        if rung > Rung.EXPORTED:
            await self.host_moved(server_id, volume_id, rung)
        return server_id

    async def try_attach(self, server_id: str, volume_id: str, *, project: str = "member") -> None:
        """Attach the volume to that server through the compute API's use case. Raises its errors."""
        actor = Actor(user_id="u", project_id=PROJECTS[project], request_id="req-attach")
        await self.attachments.attach(actor, server_id, volume_id, device=None, tag=None, delete_on_termination=False)

    async def detach(self, server_id: str, volume_id: str) -> None:
        """Detach it, and let the host let go."""
        actor = Actor(user_id="u", project_id=PROJECTS["admin"], request_id="req-detach", is_admin=True)
        await self.attachments.detach(actor, server_id, volume_id)
        await self.host_moved(server_id, volume_id, Rung.EXPORTED)

    async def host_moved(self, server_id: str, volume_id: str, rung: Rung, *, plugged_bytes: int | None = None) -> None:
        """The host's agent reports the path of that attachment on that rung."""
        await self.runtime.store.write(
            _report_path, server_id, volume_id, rung, self.runtime.clock.now_us(), plugged_bytes=plugged_bytes
        )


def _insert_server(tx: Tx, server_id: str, project_id: str, at: int) -> None:
    values = {
        "id": server_id,
        "project_id": project_id,
        "user_id": "u",
        "name": "web",
        "flavor": {},
        "image": {},
        "host": HOST,
        "availability_zone": "nova",
        "metadata": {},
        "goal": ServerGoal.RUNNING,
        "goal_revision": 1,
        "goal_request_id": "req-server",
        "deadline_at": at,
        "rung": ServerRung.RUNNING,
        "revision": 1,
        "wanted_boot": 1,
        "boot": 1,
        "boot_kind": BootKind.HARD,
        "locked": False,
        "created_at": at,
        "launched_at": at,
        "host_version": 1,
    }
    tx.execute(insert(servers), values)


def _report_path(tx: Tx, server_id: str, volume_id: str, rung: Rung, at: int, *, plugged_bytes: int | None) -> None:
    attachment = find_open(tx, server_id=server_id, volume_id=volume_id)
    assert attachment is not None
    (path,) = live_paths(tx, attachment.id)
    report = PathReport(
        path_id=path.id,
        revision=path.revision,
        goal_revision=attachment.goal_revision,
        rung=rung,
        hands=Hands.HOST if rung > Rung.EXPORTED else Hands.CONTROL,
        plugged_bytes=plugged_bytes if rung is Rung.PLUGGED else None,
    )
    free = {"local": Pool.effect_free}
    assert apply_path_report(tx, HOST, 1, report, at=at, refusal_deadline_at=at, effect_free=free)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    root = tmp_path / "volumes"
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(open_runtime(tmp_path))
        pool = Pool("local", root, runtime.executor)
        await pool.open()
        made = World(runtime, pool, root)
        await made.images.open()
        made.backup_files.open()
        await made.types.bootstrap()
        facts = {"max_volumes": 8}
        at = runtime.clock.now_us()
        await runtime.store.write(register_host, name=HOST, availability_zone="nova", facts=facts, at=at)
        for name in (*PROJECTS, "unscoped"):
            made.clients[name] = await stack.enter_async_context(make_client(made.app, name))
        yield made


@pytest.fixture
async def fast(world: World, tmp_path: Path) -> Pool:
    """A second pool with less free space, and a type for it."""
    pool = Pool("fast", tmp_path / "fast", world.runtime.executor, pool="fast")
    pool.shown = Capacity(total_bytes=50 * GIB, free_bytes=30 * GIB)
    await pool.open()
    world.backends["fast"] = pool
    await world.types.create("fast", None, is_public=True, extra_specs={"volume_backend_name": "fast"})
    return pool


def message(answer: httpx.Response, status: int) -> str:
    """The message of an error with that status, whose body has Cinder's shape."""
    assert answer.status_code == status, answer.text
    ((name, inner),) = answer.json().items()
    assert inner["code"] == status
    assert name == NAMES[status]
    return str(inner["message"])
