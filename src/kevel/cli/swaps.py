"""`kevel attachment swap`: another volume in an attached one's place, while the guest runs."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from kevel.cli.attachments import Name, find_attachment
from kevel.cli.client import ApiClient
from kevel.domain.errors import KevelError

LOOK_EVERY_S: Final = 0.3
#: What is said of each state while it lasts.
WORDS: Final = {"copying": "copying", "pivoting": "changing over"}

swap_app = typer.Typer()


@swap_app.command("swap")
def swap_attachment(
    name: Name,
    volume: Annotated[str, typer.Argument(help="The id of the volume that is to take the place; of the same size.")],
    timeout: Annotated[float, typer.Option(help="Stop watching after so many seconds; the swap goes on.")] = 3600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Give the running guest another volume in this one's place, with its contents, and watch until it has it."""
    with closing(ApiClient.from_environment()) as client:
        path = f"/kevel/v1/attachments/{find_attachment(client, name)['id']}/swap"
        client.post(path, {"volume_id": volume})
        swap = _follow(client, path, time.monotonic() + timeout)
    if as_json:
        Console().print_json(data=swap)
    if swap["state"] in WORDS:
        raise KevelError(f"Not finished after {timeout:g} s; the swap goes on.")
    if swap["state"] != "swapped":
        why = "It was cancelled." if swap["reason"] is None else swap["reason"]["message"]
        raise KevelError(f"The server keeps volume {swap['old_volume_id']}. {why}")
    if not as_json:
        typer.echo(
            f"Server {swap['server_id']} has volume {swap['new_volume_id']} in place of {swap['old_volume_id']}."
        )


@swap_app.command("cancel-swap")
def cancel_swap(name: Name) -> None:
    """Give a running swap up: the server keeps the volume that it has."""
    with closing(ApiClient.from_environment()) as client:
        attachment = find_attachment(client, name)
        client.delete(f"/kevel/v1/attachments/{attachment['id']}/swap")
    typer.echo(f"Cancelled. The server keeps volume {attachment['volume_id']}.")


def _follow(client: ApiClient, path: str, until: float) -> dict[str, Any]:
    """Show how the swap goes, until it is over or it is too late; the swap then."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("waiting", total=None)
        while True:
            swap: dict[str, Any] = client.get(path)["swap"]
            if swap["state"] not in WORDS or time.monotonic() > until:
                return swap
            done, total = swap["done_bytes"], swap["total_bytes"] or None
            progress.update(task, description=WORDS[swap["state"]], completed=done, total=total)
            time.sleep(LOOK_EVERY_S)
