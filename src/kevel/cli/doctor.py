"""`kevel doctor`: compare what Kevel has recorded with what is really there, now."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from kevel.cli.attachments import show_time
from kevel.cli.client import ApiClient

#: Something differs that Kevel does not put right by itself.
EXIT_PERSON: Final = 4

doctor_app = typer.Typer()


@doctor_app.command("doctor")
def examine(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False) -> None:
    """Compare records, storage and every host once, now (admins only).

    Prints what differs and what is done about it. The exit code is 0 when all agrees or puts itself right, and 4 when
    something needs a person. What no record names is reported and never touched.
    """
    with closing(ApiClient.from_environment()) as client:
        examination = client.post("/kevel/v1/doctor", {})["examination"]
    if as_json:
        Console().print_json(data=examination)
    else:
        _print_examination(examination)
    if examination["needs_person"]:
        raise typer.Exit(EXIT_PERSON)


def _print_examination(examination: dict[str, Any]) -> None:
    for census in examination["censuses"]:
        counted = ", ".join(_count(count, name) for name, count in census["counted"].items()) or "no answer"
        typer.echo(f"{census['subject']}: {counted}, compared at {show_time(census['at'])}")
    findings = examination["findings"]
    if not findings:
        typer.echo("Records and reality agree.")
    for finding in findings:
        typer.echo("")
        typer.echo(finding["text"])
        typer.echo(f"  since {show_time(finding['found_at'])} ({finding['kind']})")
        who = "Needs a person" if finding["needs_person"] else "Puts itself right"
        typer.echo(f"  {who}: {finding['remedy']}")


def _count(count: int, plural: str) -> str:
    return f"{count} {plural.removesuffix('s') if count == 1 else plural}"
