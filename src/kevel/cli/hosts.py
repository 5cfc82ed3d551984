"""`kevel host`: which hosts there are, who may speak for each, and how agents are let in and shut out."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from kevel.cli.attachments import AsJson, show_time
from kevel.cli.client import ApiClient

host_app = typer.Typer(no_args_is_help=True, help="Hosts and their agents (admins only).")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The host's name.")]


def _path(name: str, rest: str = "") -> str:
    return f"/kevel/v1/hosts/{quote(name, safe='')}{rest}"


@host_app.command("list")
def list_hosts(as_json: AsJson = False) -> None:
    """List hosts."""
    with closing(ApiClient.from_environment()) as client:
        hosts = client.get("/kevel/v1/hosts")["hosts"]
    console = Console()
    if as_json:
        console.print_json(data=hosts)
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("host", "state", "zone", "agent", "last heard of", "reaches"):
        table.add_column(name)
    for host in hosts:
        table.add_row(*_row(host))
    console.print(table)


def _row(host: dict[str, Any]) -> tuple[str, ...]:
    seen = "never" if host["seen_at"] is None else show_time(host["seen_at"])
    agent = "inside Kevel" if not host["joined"] else "joined" if host["admitted"] else "revoked or expired"
    return host["name"], host["state"], host["availability_zone"] or "-", agent, seen, _reaches(host)


def _reaches(host: dict[str, Any]) -> str:
    reach = host["reach"]
    if reach is None:
        return "everything" if not host["joined"] else "-"
    return ", ".join([*(["images"] if reach["images"] else []), *reach["pools"]]) or "nothing"


@host_app.command("show")
def show_host(name: Name, as_json: AsJson = False) -> None:
    """Show a host and the certificates of its agent."""
    with closing(ApiClient.from_environment()) as client:
        host = client.get(_path(name))["host"]
    console = Console()
    if as_json:
        console.print_json(data=host)
        return
    console.print(f"{host['name']} is {host['state']}. {host['why']}", soft_wrap=True)
    console.print(f"Reaches: {_reaches(host)}.", soft_wrap=True)
    for one in host["credentials"]:
        ended = f", ended {show_time(one['revoked_at'])}" if one["revoked_at"] else ""
        text = f"Certificate {one['serial']}: since {show_time(one['issued_at'])}, until {show_time(one['expires_at'])}"
        console.print(text + ended, soft_wrap=True)


@host_app.command("join-token")
def make_join_token(name: Name, as_json: AsJson = False) -> None:
    """Make a token with which one agent becomes this host's, once, within an hour. It is shown now and never again."""
    with closing(ApiClient.from_environment()) as client:
        made = client.post(_path(name, "/join-token"), {})["join_token"]
    if as_json:
        Console().print_json(data=made)
    else:
        typer.echo(made["token"])


@host_app.command("revoke")
def revoke_host(name: Name) -> None:
    """Shut the host's agent out at once. Its guests keep running; only a new join token lets an agent in again."""
    with closing(ApiClient.from_environment()) as client:
        client.post(_path(name, "/revoke"), {})
    typer.echo(f"Host {name}: every certificate and join token is revoked.")
