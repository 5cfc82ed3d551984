"""`kevel attachment`: what an attachment went through, from Kevel's own API."""

from __future__ import annotations

import os
from typing import Annotated, Any, Final

import httpx
import typer
from rich.console import Console
from rich.table import Table

from kevel.domain.errors import KevelError

attachment_app = typer.Typer(no_args_is_help=True, help="Look at attachments.")

TIMEOUT_S: Final = 30.0


class ApiClient:
    """Kevel's own API, with the credentials that `openrc` puts into the environment."""

    def __init__(self, auth_url: str, body: dict[str, Any]) -> None:
        self._client = httpx.Client(timeout=TIMEOUT_S, trust_env=False)
        answer = self._client.post(f"{auth_url}/auth/tokens", json=body)
        if answer.status_code != 201:
            raise KevelError(f"{auth_url} did not give a token: {_message(answer)}")
        self._headers = {"X-Auth-Token": answer.headers["X-Subject-Token"]}
        self._base = auth_url.removesuffix("/identity/v3")

    @classmethod
    def from_environment(cls) -> ApiClient:
        """Log in with OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME."""
        missing = [name for name in ("OS_AUTH_URL", "OS_USERNAME", "OS_PASSWORD") if not os.environ.get(name)]
        if missing:
            raise KevelError(f"{', '.join(missing)} not set; `source DIR/openrc` first.")
        domain = {"name": os.environ.get("OS_USER_DOMAIN_NAME", "Default")}
        user = {"name": os.environ["OS_USERNAME"], "password": os.environ["OS_PASSWORD"], "domain": domain}
        project = {"name": os.environ.get("OS_PROJECT_NAME", "admin"), "domain": domain}
        identity = {"methods": ["password"], "password": {"user": user}}
        return cls(os.environ["OS_AUTH_URL"], {"auth": {"identity": identity, "scope": {"project": project}}})

    def get(self, path: str) -> Any:
        """The JSON of GET /kevel/v1/PATH. Raises KevelError with the server's message."""
        answer = self._client.get(f"{self._base}/kevel/v1/{path}", headers=self._headers)
        if answer.status_code != 200:
            raise KevelError(_message(answer))
        return answer.json()


def _message(answer: httpx.Response) -> str:
    try:
        (inner,) = answer.json().values()
        return str(inner["message"])
    except (ValueError, TypeError, KeyError):
        return f"HTTP {answer.status_code}"


def timeline_table(attachment: dict[str, Any], journal: list[dict[str, Any]]) -> Table:
    """The attachment's history, rung by rung, with milliseconds since its request."""
    title = f"attachment {attachment['id']}: volume {attachment['volume_id']} in server {attachment['server_id']}"
    table = Table(title=title, title_justify="left")
    for name, justify in (("ms", "right"), ("what", "left"), ("from", "left"), ("to", "left"), ("took ms", "right")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    table.add_column("who")
    start = journal[0]["at"] if journal else 0
    for entry in journal:
        took = "" if entry["took_us"] is None else f"{entry['took_us'] / 1000:.1f}"
        since = f"{(entry['at'] - start) / 1000:.1f}"
        table.add_row(since, entry["what"], entry["before"], entry["after"], took, entry["actor"])
    return table


@attachment_app.command("timeline")
def show_timeline(
    attachment_id: Annotated[str, typer.Argument(help="Id of an attachment, open or closed.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Print every move of an attachment, rung by rung, with milliseconds."""
    client = ApiClient.from_environment()
    attachment = client.get(f"attachments/{attachment_id}")["attachment"]
    journal = client.get(f"attachments/{attachment_id}/journal")["journal"]
    console = Console()
    if as_json:
        console.print_json(data={"attachment": attachment, "journal": journal})
        return
    console.print(timeline_table(attachment, journal))
    if attachment["reason"] is not None:
        console.print(f"reason: {attachment['reason']['message']}")
