"""`kevel attachment`: what attachments are doing and why, from Kevel's own API."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from kevel.cli.client import ApiClient, ApiError
from kevel.cli.timeline import show_consumer, timeline_table
from kevel.domain.errors import KevelError

#: How long one request of `watch` waits for news; less than the client's own patience.
WATCH_WAIT_S: Final = 20.0
#: Rows of one request of `list`; it asks for page after page, this often at most.
PAGE_ROWS: Final = 500
PAGES_MAX: Final = 200
#: What three ids and three words take.
LIST_COLUMNS: Final = 160

attachment_app = typer.Typer(no_args_is_help=True, help="Look at attachments: where they stand, and why.")

Name = Annotated[str, typer.Argument(metavar="ID", help="An attachment's id, or the id of its volume.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def find_attachment(client: ApiClient, name: str) -> dict[str, Any]:
    """The attachment of that id, or the newest of the volume of that id. Raises KevelError."""
    try:
        found: dict[str, Any] = client.get(f"/kevel/v1/attachments/{quote(name, safe='')}")["attachment"]
    except ApiError as error:
        if error.status != 404:
            raise
    else:
        return found
    query = f"volume_id={quote(name[:64], safe='')}&closed=true&limit=20"
    of_volume = client.get(f"/kevel/v1/attachments?{query}")["attachments"]
    if not of_volume:
        raise KevelError(f"There is no attachment {name!r}, and no volume {name!r} that has had one.")
    still_open = [one["id"] for one in of_volume if one["closed_at"] is None]
    if len(still_open) > 1:
        raise KevelError(f"Volume {name} has several attachments; name one: {', '.join(still_open)}.")
    return find_attachment(client, (still_open or [of_volume[0]["id"]])[0])


@attachment_app.command("list")
def list_attachments(
    server: Annotated[str | None, typer.Option(help="Only those of the server of this id.")] = None,
    volume: Annotated[str | None, typer.Option(help="Only those of the volume of this id.")] = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Only those not where they should be.")] = False,
    closed: Annotated[bool, typer.Option("--closed", help="Closed ones too.")] = False,
    all_projects: Annotated[bool, typer.Option("--all-projects", help="Of all projects, for admins.")] = False,
    as_json: AsJson = False,
) -> None:
    """List attachments, newest first, each with whom it waits for."""
    wanted = {"server_id": server, "volume_id": volume}
    flags = {"unfinished": unfinished, "closed": closed, "all_projects": all_projects}
    query = {key: value for key, value in wanted.items() if value} | {key: "true" for key, on in flags.items() if on}
    with closing(ApiClient.from_environment()) as client:
        rows = _read_pages(client, query)
    console = Console()
    if as_json:
        console.print_json(data=rows)
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("attachment", "volume", "server", "status", "waits for", "since"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        waits_for = "-" if row["finished"] else row["waits_for"] + (" (overdue)" if row["overdue"] else "")
        table.add_row(row["id"], row["volume_id"], show_consumer(row), row["status"], waits_for, show_age(row["since"]))
    # An id is to be copied, and lines are to be searched: none is broken, however narrow the terminal is.
    Console(width=max(console.width, LIST_COLUMNS)).print(table)


def _read_pages(client: ApiClient, query: dict[str, str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for _ in range(PAGES_MAX):
        more = {"limit": str(PAGE_ROWS)} | ({"marker": rows[-1]["id"]} if rows else {})
        text = "&".join(f"{key}={quote(value, safe='')}" for key, value in (query | more).items())
        page = client.get(f"/kevel/v1/attachments?{text}")
        rows += page["attachments"]
        if "attachments_links" not in page:
            break
    return rows


@attachment_app.command("show")
def show_attachment(name: Name, as_json: AsJson = False) -> None:
    """Show what is wanted of an attachment and what was last seen of each of its layers."""
    with closing(ApiClient.from_environment()) as client:
        attachment = find_attachment(client, name)
    console = Console()
    if as_json:
        console.print_json(data=attachment)
        return
    console.print(attachment["why"], soft_wrap=True)
    console.print(_facts_table(attachment))
    for path in attachment["paths"]:
        console.print(_layers_table(path))


def _facts_table(attachment: dict[str, Any]) -> Table:
    table = Table(show_header=False)
    reason, error = attachment["reason"], next((one["last_error"] for one in attachment["paths"]), None)
    facts = {
        "attachment": attachment["id"],
        "volume": attachment["volume_id"],
        "server": attachment["server_id"],
        "external": None if attachment["external"] is None else show_consumer(attachment),
        "status": attachment["status"],
        "goal": f"{attachment['goal']}, set by {attachment['goal_by']}, request {attachment['goal_request_id']}",
        "deadline": show_time(attachment["deadline_at"]) + (" (overdue)" if attachment["overdue"] else ""),
        "waits for": f"{attachment['waits_for']}, since {show_time(attachment['since'])}",
        "tried next": show_next_try(attachment),
        "reason": None if reason is None else f"{reason['message']} ({show_time(reason['at'])})",
        "last error": None if error is None else f"{error['message']} ({show_time(error['at'])})",
        "closed": None if attachment["closed_at"] is None else show_time(attachment["closed_at"]),
    }
    for label, value in facts.items():
        if value is not None:
            table.add_row(label, value)
    return table


def _layers_table(path: dict[str, Any]) -> Table:
    title = f"host {path['host']}, rung {path['rung']}, held by the {path['hands']}, generation {path['generation']}"
    table = Table(title=title, title_justify="left")
    for name in ("layer", "should be", "was seen", "when", "by", "how"):
        table.add_column(name)
    for layer in path["layers"]:
        words = [layer[key].replace("_", " ") for key in ("name", "desired", "observed")]
        when = "" if layer["at"] is None else show_time(layer["at"])
        differs = layer["desired"] != layer["observed"]
        table.add_row(*words, when, layer["by"] or "", layer["how"] or "", style="bold" if differs else None)
    return table


@attachment_app.command("why")
def say_why(name: Name, as_json: AsJson = False) -> None:
    """Say in one sentence why an attachment is where it is."""
    with closing(ApiClient.from_environment()) as client:
        attachment = find_attachment(client, name)
    if as_json:
        keys = ("id", "why", "waits_for", "since", "finished", "overdue", "next_try_at", "next_try_within_s")
        Console().print_json(data={key: attachment[key] for key in keys})
        return
    typer.echo(attachment["why"])


@attachment_app.command("watch")
def watch_attachment(
    name: Name,
    timeout: Annotated[float, typer.Option(help="Give up after so many seconds.")] = 3600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Follow an attachment live until it is where it should be; exit code 1 when it turns round or takes too long."""
    with closing(ApiClient.from_environment()) as client:
        first = find_attachment(client, name)
        attachment = _follow(client, first, time.monotonic() + timeout, as_json=as_json)
    if not attachment["finished"]:
        raise KevelError(f"Not finished after {timeout:g} s. {attachment['why']}")
    if not as_json:
        typer.echo(attachment["why"])
    if attachment["goal"] != first["goal"]:
        raise KevelError(f"It was to be {first['goal']}, and ended {attachment['goal']}. {attachment['why']}")


def _follow(client: ApiClient, attachment: dict[str, Any], until: float, *, as_json: bool) -> dict[str, Any]:
    """Print the journal as it grows, until the attachment is finished or it is too late; the attachment then."""
    console, seq, path = Console(), 0, f"/kevel/v1/attachments/{attachment['id']}"
    while True:
        left_s = until - time.monotonic()
        wait_s = 0.0 if seq == 0 or attachment["finished"] else max(0.0, min(WATCH_WAIT_S, left_s))
        lines = client.get(f"{path}/journal?since={seq}&wait={wait_s:.3f}")["journal"]
        for line in lines:
            seq = line["seq"]
            if as_json:
                console.print_json(data=line, indent=None)
            else:
                typer.echo(_tell_line(line))
        if left_s < 0 or (attachment["finished"] and not lines):
            return attachment
        attachment = client.get(path)["attachment"]


def _tell_line(line: dict[str, Any]) -> str:
    took = "" if line["took_us"] is None else f", took {line['took_us'] / 1000:.1f} ms"
    detail = line["detail"] or {}
    move = line["before"] if line["before"] == line["after"] else f"{line['before']} -> {line['after']}"
    what = f"{line['what']} {detail['code']}" if line["what"] == "error" else line["what"]
    return f"{show_time(line['at'])}  {what}: {move}  ({line['actor']}, {line['request_id']}{took})"


@attachment_app.command("retry")
def retry_attachment(name: Name) -> None:
    """Have everybody who holds a part of an attachment look again now."""
    with closing(ApiClient.from_environment()) as client:
        attachment = find_attachment(client, name)
        client.post(f"/kevel/v1/attachments/{attachment['id']}/retry", {})
    typer.echo(f"Asked. `kevel attachment watch {attachment['id']}` follows what comes of it.")


@attachment_app.command("timeline")
def show_timeline(name: Name, as_json: AsJson = False) -> None:
    """Print every move of an attachment, rung by rung, with milliseconds."""
    with closing(ApiClient.from_environment()) as client:
        attachment = find_attachment(client, name)
        journal = client.get(f"/kevel/v1/attachments/{attachment['id']}/journal")["journal"]
    console = Console()
    if as_json:
        console.print_json(data={"attachment": attachment, "journal": journal})
        return
    console.print(timeline_table(attachment, journal))
    typer.echo(attachment["why"])
    if attachment["reason"] is not None:
        typer.echo(f"reason: {attachment['reason']['message']}")


def show_time(at: int) -> str:
    """A moment in UTC, to the millisecond."""
    return datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def show_age(at: int) -> str:
    """How long ago that was."""
    seconds = max(0.0, time.time() - at / 1e6)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def show_next_try(attachment: dict[str, Any]) -> str | None:
    """When it is tried next, as far as is known."""
    if attachment["next_try_at"] is not None:
        return show_time(attachment["next_try_at"])
    if attachment["next_try_within_s"] is not None:
        return f"within {attachment['next_try_within_s']:g} s, or as soon as something happens"
    return None
