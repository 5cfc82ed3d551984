"""`kevel agent`: the agent of one host as a process of its own, which talks HTTPS to the control plane."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import structlog
import typer
import uvloop

from kevel.cli.config import AgentConfig, read_agent_config, split_listen
from kevel.cli.data_dir import DataDir
from kevel.domain.agents import JoinToken, read_join_token
from kevel.domain.errors import KevelError, SetupError
from kevel.host.agent import Agent
from kevel.host.credential import AgentKey, CredentialFile, join_control
from kevel.host.reach import ReachWatch
from kevel.host.remote import RemoteControl
from kevel.host.state import HostConfig, HostState
from kevel.hypervisor.base import Hypervisor
from kevel.hypervisor.libvirt.hypervisor import EMBED_URI, LibvirtHypervisor
from kevel.hypervisor.libvirt.wire import Accel
from kevel.hypervisor.sim import SimHypervisor
from kevel.runtime import failpoints
from kevel.runtime.log_levels import set_up_logging
from kevel.runtime.ports import SystemClock, SystemIds, ThreadExecutor

log = structlog.get_logger(__name__)

#: The control plane hears this agent no more: starting it again would not help.
EXIT_DISMISSED: Final = 5
FILE_THREADS_MAX: Final = 8
#: Each holds one directory's look; a dead file system keeps its thread.
MARK_THREADS_MAX: Final = 20
ROTATION_LOOK_S: Final = 3600.0
_MACHINE_ID: Final = Path("/etc/machine-id")

agent_app = typer.Typer()


@agent_app.command("agent")
def run(
    data: Annotated[str | None, typer.Option(help="The agent's own directory; made if it is not there.")] = None,
    control: Annotated[str | None, typer.Option(help="HOST:PORT where the control plane listens to agents.")] = None,
    join: Annotated[str | None, typer.Option(help="A join token, or - to read it from standard input.")] = None,
    hypervisor: Annotated[str | None, typer.Option(help="libvirt (real guests) or sim (simulated ones).")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file; flags win over it.")] = None,
) -> None:
    """Run the guests of one host for a control plane elsewhere, until Ctrl-C. Guests keep running.

    The first time, --control and --join let it in; afterwards it knows both. Exit code 5: it is not wanted any more.
    """
    settings = read_agent_config(config)
    flags: dict[str, Any] = {"data": data, "control": control, "hypervisor": hypervisor}
    given = {key: value for key, value in flags.items() if value is not None}
    if given.get("hypervisor", "sim") not in ("libvirt", "sim"):
        raise SetupError(f"There is no hypervisor {hypervisor!r}; choose libvirt or sim.")
    settings = msgspec.structs.replace(settings, **given)
    token = sys.stdin.readline(1024) if join == "-" else join
    run_agent(settings, None if token is None else read_join_token(token))


def run_agent(config: AgentConfig, token: JoinToken | None) -> None:
    """Run until a signal. Raises SetupError, and Dismissed once the control plane hears this agent no more."""
    os.umask(0o077)
    set_up_logging(config.log_level)
    failpoints.arm(os.environ)
    data = DataDir(Path(config.data))
    data.open()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(config, data, token))
    finally:
        data.close()


async def _run(config: AgentConfig, data: DataDir, token: JoinToken | None) -> None:
    if config.control:
        split_listen(config.control)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    credential = await join_once(config, data, token)
    stopping = asyncio.create_task(stop.wait())
    serving = asyncio.create_task(_serve(config, data, credential))
    await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not serving.done():
        serving.cancel()
    (ended,) = await asyncio.gather(serving, return_exceptions=True)
    if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
        raise ended


async def _serve(config: AgentConfig, data: DataDir, credential: CredentialFile) -> None:
    async with running_agent(config, data, credential) as control:
        print(f"The agent of host {credential.host} works for {credential.control}.")
        sys.stdout.flush()
        raise await asyncio.shield(control.dismissed)


async def join_once(config: AgentConfig, data: DataDir, token: JoinToken | None) -> CredentialFile:
    """What the agent is known by: what it has, or what it gets for a token that it has not used before."""
    known = data.read_agent_credential()
    if known is not None and (token is None or name_token(token) == data.read_joined()):
        return known if not config.control else msgspec.structs.replace(known, control=config.control)
    if token is None:
        raise SetupError(
            "This agent has not joined; make a token with `kevel host join-token NAME` and give it by --join."
        )
    control = config.control or ("" if known is None else known.control)
    if not control:
        raise SetupError("Say by --control HOST:PORT where the control plane listens to agents.")
    key = AgentKey(data.joining_key(lambda: AgentKey().pem))
    joined = await join_control(control, token, key)
    data.write_agent_credential(joined)
    data.write_joined(name_token(token))
    return joined


def name_token(token: JoinToken) -> str:
    """What is kept of a token: enough to know it again, and not the secret."""
    return hashlib.sha256(token.text.encode()).hexdigest()


@asynccontextmanager
async def running_agent(
    config: AgentConfig, data: DataDir, credential: CredentialFile, hypervisor: Hypervisor | None = None
) -> AsyncIterator[RemoteControl]:
    """The agent at work; afterwards it has let go of everything but the guests. Raises SetupError, Dismissed."""
    clock, ids = SystemClock(), SystemIds()
    async with AsyncExitStack() as stack:
        files = ThreadExecutor("files", FILE_THREADS_MAX)
        stack.callback(files.close)
        marks = ThreadExecutor("marks", MARK_THREADS_MAX)
        stack.callback(marks.close)
        context = credential.make_context()
        control = RemoteControl(credential.control, context, place=name_place(data), instance=ids.uuid())
        stack.push_async_callback(control.close)
        settings = await control.wait_settings()
        watch = ReachWatch(control, marks)
        control.reach = await watch.look(settings, files)
        host = HostConfig(
            name=settings.host,
            availability_zone=config.availability_zone,
            data_dir=Path(settings.data_dir),
            limits=settings.limits,
        )
        driver = hypervisor or make_driver(config, data, settings.limits.effect_limit_s)
        state = HostState(host, driver, watch.connectors, control, clock)
        state.has_lease = control.has_lease
        agent = Agent(state, ids)
        stack.push_async_callback(agent.close)
        await agent.start()
        for work in (watch.run(files), _renew(control, data, credential, clock)):
            stack.push_async_callback(_cancel, asyncio.create_task(work))
        yield control


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _renew(control: RemoteControl, data: DataDir, credential: CredentialFile, clock: SystemClock) -> None:
    """Ask for the next certificate in time, until cancelled."""
    while True:
        if credential.is_due(clock):
            try:
                credential = await renew_credential(control, data, credential)
            except KevelError as error:
                log.warning("the certificate was not renewed", reason=error.message)
        await asyncio.sleep(ROTATION_LOOK_S)


async def renew_credential(control: RemoteControl, data: DataDir, credential: CredentialFile) -> CredentialFile:
    """Have a new key certified, keep both, and show them from now on."""
    key = AgentKey()
    renewed = credential.renewed(key, await control.rotate(key.request))
    data.write_agent_credential(renewed)  # before its first use ends the old one
    await control.replace_credential(renewed.make_context())
    return renewed


def make_driver(config: AgentConfig, data: DataDir, effect_limit_s: float) -> Hypervisor:
    """The driver that the configuration names."""
    if config.hypervisor == "sim":
        return SimHypervisor(data.root / "sim.json")
    return LibvirtHypervisor(
        data.root, uri=config.libvirt_uri or EMBED_URI, accel=Accel(config.accel), call_limit_s=effect_limit_s
    )


def name_place(data: DataDir) -> str:
    """Where this agent is: the machine, and the directory on it."""
    try:
        machine = _MACHINE_ID.read_text().strip()[:64]
    except OSError:
        machine = os.uname().nodename
    return f"{machine}:{data.root}"
