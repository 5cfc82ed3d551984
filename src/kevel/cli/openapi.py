"""`kevel openapi`: the OpenAPI documents, without a Kevel running."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from kevel.api.app import APIS
from kevel.api.openapi import build_document
from kevel.api.versions import read_version
from kevel.domain.errors import KevelError

openapi_app = typer.Typer()


@openapi_app.command("openapi")
def show_document(
    name: Annotated[str, typer.Argument(help="identity, compute, volume, image or kevel.")],
    microversion: Annotated[str | None, typer.Option(help="As 2.60; the newest if none is given.")] = None,
) -> None:
    """Print an API's OpenAPI document as JSON."""
    known = {api.name: api for api in APIS}
    api = known.get(name)
    if api is None:
        raise KevelError(f"There is no API {name!r}; there are {', '.join(known)}.")
    document = build_document(api, None if microversion is None else read_version(api, microversion))
    typer.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
