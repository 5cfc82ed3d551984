"""`kevel attachment`: what an attachment went through, from Kevel's own API."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from kevel.cli.client import ApiClient

attachment_app = typer.Typer(no_args_is_help=True, help="Look at attachments.")


def timeline_table(attachment: dict[str, Any], journal: list[dict[str, Any]]) -> Table:
    """The attachment's history, rung by rung, with milliseconds since its request."""
    title = f"attachment {attachment['id']}\nvolume {attachment['volume_id']} in server {attachment['server_id']}"
    table = Table(title=title, title_justify="left")
    for name, justify in (("ms", "right"), ("what", "left"), ("from", "left"), ("to", "left"), ("took ms", "right")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    table.add_column("who")
    start = journal[0]["at"] if journal else 0
    for entry in journal:
        took = "" if entry["took_us"] is None else f"{entry['took_us'] / 1000:.1f}"
        since = f"{(entry['at'] - start) / 1000:.1f}"
        table.add_row(since, entry["what"], entry["before"], entry["after"], took, entry["actor"][:24])
    return table


@attachment_app.command("timeline")
def show_timeline(
    attachment_id: Annotated[str, typer.Argument(help="Id of an attachment, open or closed.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Print every move of an attachment, rung by rung, with milliseconds."""
    client = ApiClient.from_environment()
    attachment = client.get(f"/kevel/v1/attachments/{attachment_id}")["attachment"]
    journal = client.get(f"/kevel/v1/attachments/{attachment_id}/journal")["journal"]
    console = Console()
    if as_json:
        console.print_json(data={"attachment": attachment, "journal": journal})
        return
    console.print(timeline_table(attachment, journal))
    if attachment["reason"] is not None:
        console.print(f"reason: {attachment['reason']['message']}")
