"""A small client of Kevel's APIs, for the command line, the demo and the benchmarks."""

from __future__ import annotations

import os
import time
from typing import Any, Final

import httpx

from kevel.domain.errors import KevelError

TIMEOUT_S: Final = 30.0
#: Newest microversions, as the `openstack` command line uses them.
HEADERS: Final = {"OpenStack-API-Version": "compute 2.89, volume 3.71"}


class ApiError(KevelError):
    """A request was refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ApiClient:
    """All APIs of one Kevel, as one user in one project. `http` is the client underneath, with the token in it."""

    def __init__(self, url: str, *, username: str, password: str, project: str, domain: str = "Default") -> None:
        self.http = httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False, headers=HEADERS)
        named = {"name": domain}
        user = {"name": username, "password": password, "domain": named}
        identity = {"methods": ["password"], "password": {"user": user}}
        scope = {"project": {"name": project, "domain": named}}
        try:
            answer = self._send("POST", "/identity/v3/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
        except KevelError:
            self.close()
            raise
        self.http.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]

    @classmethod
    def from_environment(cls) -> ApiClient:
        """Log in with what `openrc` puts into the environment. Raises KevelError when something is missing."""
        names = ("OS_AUTH_URL", "OS_USERNAME", "OS_PASSWORD")
        missing = [name for name in names if not os.environ.get(name)]
        if missing:
            raise KevelError(f"{', '.join(missing)} not set; `source DIR/openrc` first.")
        return cls(
            os.environ["OS_AUTH_URL"].removesuffix("/").removesuffix("/identity/v3"),
            username=os.environ["OS_USERNAME"],
            password=os.environ["OS_PASSWORD"],
            project=os.environ.get("OS_PROJECT_NAME", "admin"),
            domain=os.environ.get("OS_USER_DOMAIN_NAME", "Default"),
        )

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def _send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        try:
            answer = self.http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise KevelError(f"{self.http.base_url} does not answer ({type(error).__name__}).") from error
        if answer.is_error:
            raise ApiError(answer.status_code, f"{method} {path}: {_message(answer)}")
        return answer

    def get(self, path: str) -> Any:
        """The JSON of GET. Raises ApiError with the server's message."""
        return self._send("GET", path).json()

    def post(self, path: str, body: Any) -> Any:
        """The JSON that POST answers, None if it answers nothing. Raises ApiError."""
        answer = self._send("POST", path, body)
        return answer.json() if answer.content else None

    def delete(self, path: str) -> None:
        """DELETE. Raises ApiError."""
        self._send("DELETE", path)


def _message(answer: httpx.Response) -> str:
    try:
        (inner,) = answer.json().values()
        return str(inner["message"])
    except (ValueError, TypeError, KeyError):
        return f"HTTP {answer.status_code}"


class Cloud:
    """The main job in the APIs' words: servers, volumes, attachments."""

    def __init__(self, client: ApiClient, *, look_every_s: float = 0.02) -> None:
        self.client = client
        self._look_every_s = look_every_s

    def create_server(self, name: str, *, image: str, flavor: str) -> str:
        """Ask for a server from the named image and flavor; its id."""
        images = self.client.get(f"/image/v2/images?name={image}")["images"]
        flavors = self.client.get("/compute/v2.1/flavors")["flavors"]
        flavor_id = next((one["id"] for one in flavors if one["name"] == flavor), None)
        if not images or flavor_id is None:
            raise KevelError(f"There is no image {image!r} or no flavor {flavor!r}.")
        server = {"name": name, "imageRef": images[0]["id"], "flavorRef": flavor_id, "networks": "none"}
        return str(self.client.post("/compute/v2.1/servers", {"server": server})["server"]["id"])

    def server(self, server_id: str) -> dict[str, Any]:
        """The server as its owner sees it."""
        found: dict[str, Any] = self.client.get(f"/compute/v2.1/servers/{server_id}")["server"]
        return found

    def wait_server(self, server_id: str, status: str, timeout_s: float) -> None:
        """Wait for the status. Raises KevelError when the server goes to ERROR or does not get there."""
        self._wait(lambda: self.server(server_id)["status"], status, f"server {server_id}", timeout_s)

    def delete_server(self, server_id: str, timeout_s: float) -> None:
        """Delete the server and wait until it is gone."""
        self.client.delete(f"/compute/v2.1/servers/{server_id}")
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                self.server(server_id)
            except ApiError as error:
                if error.status == 404:
                    return
                raise
            time.sleep(self._look_every_s)
        raise KevelError(f"Server {server_id} was not gone within {timeout_s:g} s.")

    def create_volume(self, name: str, size_gib: int, timeout_s: float) -> str:
        """A new empty volume, ready to be attached; its id."""
        volume_id = str(
            self.client.post("/volume/v3/volumes", {"volume": {"name": name, "size": size_gib}})["volume"]["id"]
        )
        self.wait_volume(volume_id, "available", timeout_s)
        return volume_id

    def delete_volume(self, volume_id: str) -> None:
        """Ask for the volume's deletion."""
        self.client.delete(f"/volume/v3/volumes/{volume_id}")

    def volume_status(self, volume_id: str) -> str:
        """The volume's status now."""
        return str(self.client.get(f"/volume/v3/volumes/{volume_id}")["volume"]["status"])

    def wait_volume(self, volume_id: str, status: str, timeout_s: float) -> None:
        """Wait for the status. Raises KevelError when the volume does not get there."""
        self._wait(lambda: self.volume_status(volume_id), status, f"volume {volume_id}", timeout_s)

    def attach(self, server_id: str, volume_id: str) -> dict[str, Any]:
        """Ask for an attach; what the API answered."""
        body = {"volumeAttachment": {"volumeId": volume_id}}
        path = f"/compute/v2.1/servers/{server_id}/os-volume_attachments"
        answer: dict[str, Any] = self.client.post(path, body)["volumeAttachment"]
        return answer

    def detach(self, server_id: str, volume_id: str) -> None:
        """Ask for a detach."""
        self.client.delete(f"/compute/v2.1/servers/{server_id}/os-volume_attachments/{volume_id}")

    def histories(self, server_id: str) -> list[dict[str, Any]]:
        """Every attachment that the server has had."""
        found: list[dict[str, Any]] = self.client.get(f"/kevel/v1/servers/{server_id}/attachments")["attachments"]
        return found

    def journal(self, attachment_id: str) -> list[dict[str, Any]]:
        """Every move of an attachment."""
        found: list[dict[str, Any]] = self.client.get(f"/kevel/v1/attachments/{attachment_id}/journal")["journal"]
        return found

    def _wait(self, look: Any, wanted: str, what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while (seen := look()) != wanted:
            if seen.lower().startswith("error") or time.monotonic() > deadline:
                raise KevelError(f"{what} is {seen}, not {wanted}, after {timeout_s:g} s at the most.")
            time.sleep(self._look_every_s)
