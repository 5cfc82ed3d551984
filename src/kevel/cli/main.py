"""The `kevel` command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from kevel import __version__
from kevel.cli.agent import EXIT_DISMISSED, agent_app
from kevel.cli.attachments import attachment_app
from kevel.cli.config import Config, read_config
from kevel.cli.data_dir import DataDir
from kevel.cli.db import db_app
from kevel.cli.doctor import doctor_app
from kevel.cli.hosts import host_app
from kevel.cli.openapi import openapi_app
from kevel.cli.swaps import swap_app
from kevel.cli.up import Kevel, run_up
from kevel.domain.agents import Dismissed
from kevel.domain.errors import KevelError, SetupError

#: Kevel could not start; the message on stderr says why.
EXIT_SETUP: Final = 3
DATABASE_HELP: Final = "postgresql://USER@HOST/DATABASE; without it, SQLite in the data directory."

app = typer.Typer(name="kevel", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
attachment_app.add_typer(swap_app)
app.add_typer(agent_app)
app.add_typer(host_app, name="host")
app.add_typer(attachment_app, name="attachment")
app.add_typer(db_app, name="db")
app.add_typer(doctor_app)
app.add_typer(openapi_app)


@app.callback()
def root() -> None:
    """Kevel: volume attachment that is never stuck, behind the compute and block storage APIs."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def up(
    data: Annotated[str | None, typer.Option(help="Data directory; made if it is not there.")] = None,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT of all APIs; port 0 takes a free one.")] = None,
    hypervisor: Annotated[str | None, typer.Option(help="libvirt (real guests) or sim (simulated ones).")] = None,
    database: Annotated[str | None, typer.Option(envvar="KEVEL_DATABASE", show_envvar=True, help=DATABASE_HELP)] = None,
    agents: Annotated[str | None, typer.Option(help="HOST:PORT where agents of other hosts are listened to.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file; flags win over it.")] = None,
) -> None:
    """Run everything in one process until Ctrl-C. Guests keep running and are found again at the next start."""
    settings = read_config(config)
    flags: dict[str, Any] = {"data": data, "listen": listen, "hypervisor": hypervisor}
    flags |= {"database": database, "agents": agents}
    given = {key: value for key, value in flags.items() if value is not None}
    if given.get("hypervisor", "sim") not in ("libvirt", "sim"):
        raise SetupError(f"There is no hypervisor {hypervisor!r}; choose libvirt or sim.")
    settings = msgspec.structs.replace(settings, **given)
    sys.exit(run_up(settings, lambda kevel, directory: announce(kevel, directory, settings)))


def announce(kevel: Kevel, data: DataDir, config: Config) -> None:
    """Say where Kevel listens and how to use it."""
    agents = "" if kevel.agents_address is None else f"Agents of other hosts: {kevel.agents_address}.\n"
    typer.echo(
        f"Kevel {__version__} listens on {kevel.url} ({config.hypervisor}), data in {data.root}.\n"
        f"Use it:  source {data.root}/openrc; openstack server list\n"
        f"    or:  OS_CLIENT_CONFIG_FILE={data.root}/clouds.yaml openstack --os-cloud kevel server list\n"
        f"{agents}"
        "Stop it with Ctrl-C; guests keep running."
    )
    sys.stdout.flush()


def main() -> None:
    """The entry point: errors go to stderr, with a telling exit code."""
    try:
        app()
    except SetupError as error:
        print(f"kevel: {error.message}", file=sys.stderr)
        sys.exit(EXIT_SETUP)
    except Dismissed as error:
        print(f"kevel: {error.message}", file=sys.stderr)
        sys.exit(EXIT_DISMISSED)
    except KevelError as error:
        print(f"kevel: {error.message}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
