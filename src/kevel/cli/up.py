"""`kevel up`: everything in one process, with one local host."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
import uvicorn
import uvloop

from kevel.api.app import KevelApp
from kevel.cli.agents_listener import listening_to_agents, open_fleet
from kevel.cli.config import DEFAULT_POOL, Config, choose_directories, split_listen
from kevel.cli.data_dir import DataDir
from kevel.cli.database import open_store
from kevel.cli.engine import Engine
from kevel.cli.nbd_pools import find_tls_folder, make_nbd_backends, make_nbd_connector
from kevel.control.backups.backups import Backups
from kevel.control.copies.snapshots import Snapshots
from kevel.control.copies.volume_contents import VolumeContents
from kevel.control.groups.group_snapshots import GroupSnapshots
from kevel.control.groups.groups import Groups
from kevel.control.hosts.readings import Readings
from kevel.control.hosts.services import Services
from kevel.control.identity.identity import Identity
from kevel.control.images.images import Images
from kevel.control.messages import Messages
from kevel.control.pools.pools import Pools
from kevel.control.pools.services import VolumeServices
from kevel.control.quotas import Quotas
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
from kevel.control.volume_types.encryptions import TypeEncryptions
from kevel.control.volume_types.group_types import GroupTypes
from kevel.control.volume_types.qos_specs import Qos
from kevel.control.volume_types.types import VolumeTypes
from kevel.control.volumes.managing import Managing
from kevel.control.volumes.pool_moves import PoolMoves
from kevel.control.volumes.transfers import Transfers
from kevel.control.volumes.volumes import Volumes
from kevel.domain.errors import SetupError
from kevel.domain.identity import DEFAULT_DOMAIN_ID, Project, User
from kevel.domain.model import Actor
from kevel.host.state import HostConfig
from kevel.hypervisor.base import Hypervisor
from kevel.hypervisor.libvirt.hypervisor import EMBED_URI, LibvirtHypervisor
from kevel.hypervisor.libvirt.wire import Accel
from kevel.hypervisor.sim import SimHypervisor
from kevel.runtime import failpoints
from kevel.runtime.log_levels import LogLevels, set_up_logging
from kevel.runtime.ports import Executor, SystemClock, SystemIds, ThreadExecutor
from kevel.storage.backup_files import BackupFiles
from kevel.storage.directory import DirectoryBackend, DirectoryConnector
from kevel.storage.image_files import ImageFiles
from kevel.storage.nbd.backend import NbdBackend
from kevel.store.bootstrap import ADMIN
from kevel.store.identity import find_named
from kevel.store.transactions import Tx
from kevel.store.volumes import used_backends

log = structlog.get_logger(__name__)

FILE_THREADS_MAX: Final = 8
#: The store's writer lets go of the interpreter at each statement, and would get it back after Python's own 5 ms.
SWITCH_INTERVAL_S: Final = 0.001
#: What open connections get when Kevel stops.
DRAIN_S: Final = 3
#: An unused connection is kept longer than clients keep theirs (httpx 5 s, Go 90 s), so that it is they who close it.
#: Closed by Kevel, late and under load, it takes a request with it that has been sent already.
IDLE_CONNECTION_S: Final = 120


@dataclass
class Kevel:
    """A running Kevel: what the tests and `run_up` hold on to."""

    services: Services
    app: KevelApp
    url: str
    #: Set when the process must stop: a signal, or a lost store.
    stop: asyncio.Event
    failure: BaseException | None = None
    #: Where agents are listened to, once they are.
    agents_address: str | None = None


def make_hypervisor(config: Config, data: DataDir) -> Hypervisor:
    """The driver that the configuration names."""
    if config.hypervisor == "sim":
        return SimHypervisor(data.root / "sim.json")
    return LibvirtHypervisor(
        data.root,
        uri=config.libvirt_uri or EMBED_URI,
        accel=Accel(config.accel),
        call_limit_s=config.limits.effect_limit_s,
        nbd_tls_dir=find_tls_folder(config, data),
    )


def make_backends(
    config: Config, volumes_dir: Path, pool_dirs: Mapping[str, Path], executor: Executor
) -> dict[str, DirectoryBackend]:
    """The back ends by name, the default one first."""
    default = DirectoryBackend(DEFAULT_POOL, volumes_dir, executor, volume_format=config.volume_format)
    others = [
        DirectoryBackend(name, directory, executor, volume_format=config.volume_format, pool=name)
        for name, directory in pool_dirs.items()
        if name in {pool.name for pool in config.pools if pool.protocol == "file"}
    ]
    return {backend.name: backend for backend in (default, *others)}


def bind(listen: str) -> socket.socket:
    """The listening socket. Raises SetupError when the address cannot be had."""
    host, port = split_listen(listen)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise SetupError(f"Kevel cannot listen on {listen}: {error.strerror}.") from error
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(1024)
    except OSError as error:
        sock.close()
        message = f"Kevel cannot listen on {listen}: {error.strerror}. Choose another address with --listen."
        raise SetupError(message) from error
    return sock


@contextlib.asynccontextmanager
async def running(
    config: Config, data: DataDir, url: str, hypervisor: Hypervisor | None = None
) -> AsyncIterator[Kevel]:
    """Join the parts on a locked data directory, start them, and stop them in the opposite order."""
    stop = asyncio.Event()
    kevel: Kevel | None = None

    def lose_store(error: BaseException) -> None:
        if kevel is not None:
            kevel.failure = error
        stop.set()

    async with contextlib.AsyncExitStack() as stack:
        opened = await stack.enter_async_context(open_store(config.database, data, lose_store))
        store = opened.store
        executor = ThreadExecutor("files", FILE_THREADS_MAX)
        stack.callback(executor.close)
        runtime = Runtime(
            store=store, clock=SystemClock(), ids=SystemIds(), executor=executor, has_space=opened.has_space
        )

        limits = config.limits
        volumes_dir = data.subdirectory("volumes")
        pool_dirs = choose_directories(config.pools, volumes_dir)
        exported = make_nbd_backends(config, data, pool_dirs, runtime.clock, executor)
        local = make_backends(config, volumes_dir, pool_dirs, executor)
        backends: dict[str, DirectoryBackend | NbdBackend] = {**local, **exported}
        for backend in backends.values():
            await backend.open()
        for remote in exported.values():
            stack.push_async_callback(remote.close)
        lost = await store.read(used_backends) - backends.keys()
        if lost:
            raise SetupError(
                f"Volumes lie in the storage pool {min(lost)!r}, which is not configured; add it to [[pools]]."
            )
        host = HostConfig(
            name=config.host, availability_zone=config.availability_zone, data_dir=data.root, limits=limits
        )
        image_files = ImageFiles(data.root)
        backup_files = BackupFiles(Path(config.backups) if config.backups else data.root / "backups")
        await executor.run(backup_files.open)
        engine = Engine(
            runtime,
            backends,
            {
                "file": DirectoryConnector(volumes_dir, executor, pool_dirs),
                **make_nbd_connector(config, data, executor),
            },
            hypervisor or make_hypervisor(config, data),
            host,
            Sealer(data.sealing_key()),
            keep_house=opened.keep_house,
            images=image_files,
            backups=backup_files,
        )
        images, flavors = Images(runtime, image_files, limits), Flavors(runtime)
        await images.open()
        pools = Pools(runtime, backends, limits, host=config.host, availability_zone=config.availability_zone)
        volumes = Volumes(runtime, pools, limits, keys=engine.workers.keys)
        services = Services(
            runtime=runtime,
            identity=Identity(runtime, token_lifetime_s=int(limits.token_lifetime_s)),
            images=images,
            flavors=flavors,
            servers=Servers(
                runtime, images, flavors, ServerDisks(volumes, engine.workers.attachments, runtime.ids, limits), limits
            ),
            readings=Readings(runtime, engine.workers.hosts.questions),
            past=Past(runtime, limits),
            imaging=Imaging(runtime, image_files, limits),
            shelving=Shelving(
                runtime, engine.workers.attachments, image_files, limits, offloads=config.offload_shelved
            ),
            keypairs=Keypairs(runtime),
            server_quotas=ServerQuotas(runtime),
            server_groups=ServerGroups(runtime),
            backups=Backups(runtime, backup_files, volumes, limits, availability_zone=config.availability_zone),
            volume_contents=VolumeContents(runtime, image_files, limits),
            snapshots=Snapshots(runtime, limits),
            pools=pools,
            pool_moves=PoolMoves(runtime, pools),
            managing=Managing(runtime, pools, limits),
            volumes=volumes,
            volume_services=VolumeServices(runtime, pools),
            volume_types=VolumeTypes(runtime),
            attachments=engine.workers.attachments,
            external=engine.workers.external,
            old_flow=engine.workers.old_flow,
            hosts=engine.workers.hosts,
            fleet=await open_fleet(config, data, runtime, local.values(), engine.workers.hosts),
            messages=Messages(runtime),
            transfers=Transfers(runtime),
            quotas=Quotas(runtime, config.quotas),
            group_types=GroupTypes(runtime),
            qos=Qos(runtime),
            log_levels=LogLevels(),
            type_encryptions=TypeEncryptions(runtime),
            group_snapshots=GroupSnapshots(runtime, limits),
            groups=Groups(runtime, volumes, limits, availability_zone=config.availability_zone),
            comparison=engine.workers.comparison,
            explaining=engine.workers.explaining,
            swaps=engine.workers.swaps,
        )
        await _bootstrap(services, Path(config.guest), data, url)

        stack.push_async_callback(engine.close)
        await engine.start()
        for remote in exported.values():
            remote.watch(engine.workers.compare_soon)
        kevel = Kevel(services=services, app=KevelApp(services), url=url, stop=stop)
        yield kevel


async def _bootstrap(services: Services, guest: Path, data: DataDir, url: str) -> None:
    """What every Kevel has from the start; idempotent."""
    password = await services.identity.bootstrap(url) or data.read_admin_password()
    data.write_credentials(url, password or await services.identity.restore_admin())
    await services.volume_types.bootstrap()
    await services.quotas.bootstrap()
    await services.flavors.bootstrap()
    kernel, ramdisk, disk = (guest / name for name in ("vmlinuz", "initrd.img", "tiny.img"))
    if kernel.exists() and ramdisk.exists() and disk.exists():
        admin = await services.runtime.store.read(find_admin)
        await services.images.bootstrap_tiny(admin, kernel=kernel, ramdisk=ramdisk, disk=disk)


def find_admin(tx: Tx) -> Actor:
    """Kevel's first admin, in whose project it registers the tiny guest."""
    user = find_named(tx, User, domain_id=DEFAULT_DOMAIN_ID, name=ADMIN)
    project = find_named(tx, Project, domain_id=DEFAULT_DOMAIN_ID, name=ADMIN)
    if user is None or project is None:
        raise SetupError("The user or the project `admin` is gone; Kevel registers the tiny guest in it.")
    return Actor(user_id=user.id, project_id=project.id, request_id="req-start", is_admin=True)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: `run_up` has it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def configure_server(app: KevelApp) -> uvicorn.Config:
    """How the APIs are served."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=IDLE_CONNECTION_S,
        timeout_graceful_shutdown=DRAIN_S,
    )


async def serve(kevel: Kevel, sock: socket.socket) -> None:
    """Answer requests until `kevel.stop` is set."""
    server = _Server(configure_server(kevel.app))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    stopping = asyncio.create_task(kevel.stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await serving


def run_up(config: Config, announce: Callable[[Kevel, DataDir], None]) -> int:
    """Run until a signal; the process's exit code. Raises SetupError when Kevel cannot start."""
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    set_up_logging(config.log_level)
    failpoints.arm(os.environ)
    data = DataDir(Path(config.data))
    data.open()
    try:
        sock = bind(config.listen)
        agents = bind(config.agents) if config.agents else None
        host, port = split_listen(config.listen)
        port = sock.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{'127.0.0.1' if host == '0.0.0.0' else shown}:{port}"  # noqa: S104 - compared, not bound
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            return runner.run(_run(config, data, sock, agents, url, announce))
    finally:
        data.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    return uvloop.new_event_loop()


async def _run(
    config: Config,
    data: DataDir,
    sock: socket.socket,
    agents: socket.socket | None,
    url: str,
    announce: Callable[[Kevel, DataDir], None],
) -> int:
    async with running(config, data, url) as kevel, contextlib.AsyncExitStack() as stack:
        if agents is not None:
            await stack.enter_async_context(listening_to_agents(kevel.services, agents))
            kevel.agents_address = "{}:{}".format(*agents.getsockname()[:2])
        # What is here now stays: the collector need not walk through it (40 ms) whenever it looks at everything.
        gc.collect()
        gc.freeze()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, kevel.stop.set)
        announce(kevel, data)
        await serve(kevel, sock)
    if kevel.failure is not None:
        raise SetupError("The database could not be written; Kevel has stopped. Start it again: it recovers by itself.")
    return 0
