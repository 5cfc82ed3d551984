"""An attachment's history as a table."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def show_consumer(attachment: dict[str, Any]) -> str:
    """Which server has it, or what a client says has it."""
    external = attachment["external"]
    if external is None:
        return str(attachment["server_id"])
    name = external["instance_id"] or external["host"] or "no name"
    return f"{name} (external, {external['origin']})"


def timeline_table(attachment: dict[str, Any], journal: list[dict[str, Any]]) -> Table:
    """The attachment's history, rung by rung, with milliseconds since its request."""
    title = f"attachment {attachment['id']}\nvolume {attachment['volume_id']} in server {show_consumer(attachment)}"
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
