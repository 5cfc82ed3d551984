"""A Kevel with a simulated host, and things in it for made-up requests to hit."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from kevel.cli.client import ApiClient, Cloud
from kevel.cli.process import KevelProcess, processes_of

#: Calls between two looks at what is left to be hit.
LOOK_EVERY_CALLS: Final = 150
WANTED: Final = {"volumes": 4, "servers": 2}
#: More than that is removed again, so that lists stay short.
MOST: Final = {"volumes": 40, "servers": 20}
WAIT_S: Final = 30.0
#: Nothing that the run itself stands on is changed by it.
_SAFE: Final = frozenset({"GET", "HEAD"})
_ID: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")
#: What a path variable stands for, by the part of the path before it.
_VARIABLES: Final = {
    "server_id": "servers",
    "volume_id": "volumes",
    "attachment_id": "attachments",
    "type_id": "types",
    "flavor_id": "flavors",
    "image_id": "images",
    "user_id": "users",
    "role_id": "roles",
    "key": "keys",
    "hypervisor_id": "hypervisors",
    "message_id": "messages",
    "request_id": "requests",
    "credential_id": "credentials",
    "tag": "keys",
}
#: What a key of a body stands for.
_KEYS: Final = {
    "volumeId": "volumes",
    "imageRef": "images",
    "flavorRef": "flavors",
    "size": "sizes",
    "new_size": "sizes",
    "ram": "sizes",
    "vcpus": "sizes",
    "disk": "sizes",
    "swap": "sizes",
    "OS-FLV-EXT-DATA:ephemeral": "sizes",
    "volume_type": "types",
    "new_type": "types",
    "service_id": "services",
    "networks": "networks",
    "domain_id": "domains",
    "default_project_id": "projects",
}
#: Values at the edges of what databases, parsers and people hold; one of six requests has one of them somewhere.
_ODD: Final[tuple[Any, ...]] = (
    *("", " ", "\0", "a\0b", "\u202e", "\U00010348", "\u0663", "\u00b2", "..", "%2e%2e", "' OR 1=1 --", "\ufeff", "\n"),
    *("a" * 256, "a" * 70_000, "9" * 30, "-1", "1e9", "nan", "0x1", "None", "null", "9223372036854775808", "1_0"),
    *("[" * 3000, "{[]: 1}", "gte:", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "|", "^(a+)+$", "%"),
    *(0, -1, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, 1.5, 1e308, True, None, [], {}, [[]], {"": ""}, [None] * 300),
)
#: Things of each kind that requests may change and remove: where they are made, of what, and where their id is.
_SPARES: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "users": ("/identity/v3/users", "user", {"name": "NAME"}),
    "roles": ("/identity/v3/roles", "role", {"name": "NAME"}),
    "projects": ("/identity/v3/projects", "project", {"name": "NAME"}),
    "domains": ("/identity/v3/domains", "domain", {"name": "NAME"}),
    "services": ("/identity/v3/services", "service", {"name": "NAME", "type": "sails"}),
    "regions": ("/identity/v3/regions", "region", {"id": "NAME"}),
    "flavors": ("/compute/v2.1/flavors", "flavor", {"name": "NAME", "ram": 64, "vcpus": 1, "disk": 0}),
    "types": ("/volume/v3/types", "volume_type", {"name": "NAME", "extra_specs": {"colour": "red"}}),
    "images": ("/image/v2/images", "", {"name": "NAME", "disk_format": "raw", "container_format": "bare"}),
}
#: Values of query parameters that mean something.
_QUERY: Final = {
    "limit": ("0", "1", "2", "1000"),
    "offset": ("0", "1", "5"),
    "sort_key": ("id", "name", "created_at", "uuid", "display_name", "status", "flavorid", "size"),
    "sort_dir": ("asc", "desc"),
    "sort": ("id:asc", "created_at:desc,name", "size"),
    "all_tenants": ("1", "true", "0"),
    "with_count": ("true", "false"),
    "status": ("available", "in-use", "ACTIVE", "DELETED", "active"),
    "metadata": ("{'colour': 'red'}", '{"colour": "red"}'),
    "created_at": ("gte:2026-01-01T00:00:00", "2026-01-01T00:00:00Z"),
    "updated_at": ("lt:2030-01-01T00:00:00",),
    "changes-since": ("2026-01-01T00:00:00Z", "2026-01-01"),
    "changes-before": ("2030-01-01T00:00:00Z",),
    "is_public": ("None", "true", "false"),
    "deleted": ("true", "false"),
    "visibility": ("all", "public", "private"),
    "with_servers": ("true", "false"),
    "detail": ("true", "false"),
}
#: Keys of a new server that Kevel refuses whatever they hold; most requests leave them out.
_REFUSED: Final = (
    *("OS-DCF:diskConfig", "accessIPv4", "accessIPv6", "adminPass", "key_name", "user_data", "config_drive"),
    *("personality", "security_groups", "tags", "trusted_image_certificates", "hostname", "return_reservation_id"),
    *("block_device_mapping", "block_device_mapping_v2", "host", "hypervisor_hostname", "availability_zone"),
    *("os:scheduler_hints", "OS-SCH-HNT:scheduler_hints", "snapshot_id", "source_volid", "image_id", "backup_id"),
    *("group_id", "consistencygroup_id", "multiattach", "scheduler_hints", "min_count", "max_count"),
)


class World:
    """A running Kevel, the tokens of an admin and a member, and ids by kind."""

    def __init__(self, process: KevelProcess, cloud: Cloud) -> None:
        self.process = process
        self.cloud = cloud
        self.client = cloud.client
        self.url = str(self.client.http.base_url).rstrip("/")
        self.ids: dict[str, list[Any]] = {
            "keys": ["colour", "size"],
            "sizes": [1, 2, 3],
            "networks": ["none"],
            **{f"?{name}": list(values) for name, values in _QUERY.items()},
        }
        self.protected: set[str] = {"default"}
        self._calls = 0
        #: The present spare of each kind, and how many there have been.
        self._spares: dict[str, str] = {}
        self._made = 0
        self.admin_token = str(self.client.http.headers["X-Auth-Token"])
        self.member_token = self._make_member()
        self._find_fixed()
        self.keep_up()

    def _make_member(self) -> str:
        """A member of the admin's project, so that both see the same servers."""
        get, post = self.client.get, self.client.post
        users = get("/identity/v3/users")["users"]
        projects = get("/identity/v3/projects")["projects"]
        roles = get("/identity/v3/roles")["roles"]
        made = post("/identity/v3/users", {"user": {"name": "fuzz", "password": "fuzz-password"}})["user"]
        (project,) = [one["id"] for one in projects if one["name"] == "admin"]
        (role,) = [one["id"] for one in roles if one["name"] == "member"]
        path = f"/identity/v3/projects/{project}/users/{made['id']}/roles/{role}"
        assert self.client.http.put(path).status_code == 204
        self.protected |= {one["id"] for one in (*users, *projects, *roles, made)}
        self._own_users = [one["id"] for one in (*users, made)]
        login = ApiClient(self.url, username="fuzz", password="fuzz-password", project="admin")
        token = str(login.http.headers["X-Auth-Token"])
        login.close()
        return token

    def _find_fixed(self) -> None:
        get = self.client.get
        self.ids |= {
            "services": [one["id"] for one in get("/identity/v3/services")["services"]],
            "images": [one["id"] for one in get("/image/v2/images")["images"]],
            "flavors": [one["id"] for one in get("/compute/v2.1/flavors")["flavors"]],
            "types": [one["id"] for one in get("/volume/v3/types")["volume_types"]],
            "hypervisors": [one["id"] for one in get("/compute/v2.1/os-hypervisors")["hypervisors"]],
        }
        # What servers are made of stays, or soon nothing else could be made.
        self.protected |= {*self.ids["images"], *self.ids["flavors"], *self.ids["types"]}
        self._fixed = {kind: list(found) for kind, found in self.ids.items()}
        self._fixed["users"] = self._own_users

    def keep_up(self) -> None:
        """Make what has become too few, remove what has become too many, and note what is there."""
        self._note()
        for kind in _SPARES:
            self._keep_spare(kind)
        self._keep_token()
        while len(self.ids["volumes"]) < WANTED["volumes"]:
            made = self.client.post("/volume/v3/volumes", {"volume": {"size": 1, "metadata": {"colour": "red"}}})
            self.ids["volumes"].append(made["volume"]["id"])
        while len(self.ids["servers"]) < WANTED["servers"]:
            image = f"/image/v2/images/{self.ids['images'][0]}"
            # A made-up request may have asked for more than any flavor gives.
            small = [{"op": "replace", "path": f"/{name}", "value": 0} for name in ("min_ram", "min_disk")]
            patch = "application/openstack-images-v2.1-json-patch"
            self.client.http.patch(image, content=json.dumps(small), headers={"Content-Type": patch})
            name = self.client.get(image)["name"]
            flavor = self.client.get("/compute/v2.1/flavors")["flavors"][0]["name"]
            server_id = self.cloud.create_server("hit-me", image=name, flavor=flavor)
            self.cloud.wait_server(server_id, "ACTIVE", WAIT_S)
            self.ids["servers"].append(server_id)
            self.client.post(f"/compute/v2.1/servers/{server_id}/metadata", {"metadata": {"colour": "red"}})
        if not self.ids["attachments"]:
            with contextlib.suppress(Exception):  # the volume may be deleted, the server stopped: the next look again
                self.cloud.attach(self.ids["servers"][-1], self.ids["volumes"][-1])
        for kind, path in (("volumes", "/volume/v3/volumes"), ("servers", "/compute/v2.1/servers")):
            for one in self.ids[kind][MOST[kind] :]:
                self.client.http.delete(f"{path}/{one}")

    def _keep_spare(self, kind: str) -> None:
        path, key, fields = _SPARES[kind]
        spare = self._spares.get(kind)
        if spare is None or self.client.http.get(f"{path}/{spare}").status_code == 404:
            self._made += 1
            named = {name: f"spare-{self._made}" if value == "NAME" else value for name, value in fields.items()}
            made = self.client.post(path, {key: named} if key else named)
            self._spares[kind] = spare = str((made[key] if key else made)["id"])
            if kind == "flavors":
                self.client.post(f"{path}/{spare}/os-extra_specs", {"extra_specs": {"colour": "red"}})
        self.ids[kind] = [*self._fixed.get(kind, ()), spare]

    def _keep_token(self) -> None:
        """A token that may be looked at and revoked."""
        token = self.ids.get("tokens", [""])[0]
        shown = self.client.http.get("/identity/v3/auth/tokens", headers={"X-Subject-Token": token or "none"})
        if shown.status_code != 200:
            login = ApiClient(self.url, username="fuzz", password="fuzz-password", project="admin")
            self.ids["tokens"] = [str(login.http.headers["X-Auth-Token"])]
            login.close()

    def _note(self) -> None:
        get = self.client.get
        volumes = get("/volume/v3/volumes/detail?sort=created_at:asc")["volumes"]
        self.ids["volumes"] = [one["id"] for one in volumes if one["status"] in ("available", "in-use", "attaching")]
        servers = get("/compute/v2.1/servers/detail?sort_key=created_at&sort_dir=asc")["servers"]
        self.ids["servers"] = [one["id"] for one in servers if one["status"] in ("ACTIVE", "SHUTOFF", "BUILD")]
        self.ids["attachments"] = [one["id"] for one in get("/volume/v3/attachments")["attachments"]]
        self.ids["messages"] = [one["id"] for one in get("/volume/v3/messages")["messages"]]
        self.ids["requests"] = []
        for server_id in self.ids["servers"][:1]:
            actions = get(f"/compute/v2.1/servers/{server_id}/os-instance-actions")["instanceActions"]
            self.ids["requests"] = [one["request_id"] for one in actions]

    def aim(self, case: Any, known: dict[str, Any], draw: random.Random) -> None:
        """Put in what is known, and turn most of what was made up into something that exists."""
        self._calls += 1
        if self._calls % LOOK_EVERY_CALLS == 0:
            self.keep_up()
        case.path_parameters |= known
        for name, value in case.path_parameters.items():
            kind = _VARIABLES.get(name) or self._kind_in_path(case.path, name)
            case.path_parameters[name] = self._hit(kind, value, draw)
        if case.method.upper() not in _SAFE and "application_credentials" not in case.path:
            for name, value in case.path_parameters.items():
                if value in self.protected:
                    kind = _VARIABLES.get(name) or self._kind_in_path(case.path, name)
                    case.path_parameters[name] = self._spares.get(kind, "0" * 32)
        if isinstance(case.query, dict):
            case.query = self._aim_query(case.query, draw)
            if "wait" in case.query:  # a request that may wait does so as long as it is told, and there is other work
                case.query["wait"] = "0.2"
        case.body = self._complete(case, self._aim_body(case.body, draw), draw)
        if "X-Subject-Token" in case.headers:
            case.headers["X-Subject-Token"] = self._hit("tokens", case.headers["X-Subject-Token"], draw)
        version = case.operation.definition.raw["x-version"]
        if version is not None:
            case.headers["OpenStack-API-Version"] = version
        if draw.random() < 1 / 6:
            self._spoil(case, draw)
        if draw.random() > 1 / 16:
            case.headers["X-Auth-Token"] = self.member_token if draw.random() < 1 / 5 else self.admin_token

    @staticmethod
    def _kind_in_path(path: str, name: str) -> str:
        return path.partition(f"/{{{name}}}")[0].rpartition("/")[2]

    def _hit(self, kind: str, value: Any, draw: random.Random) -> Any:
        """Something of that kind that exists, three times of four; a real id stays."""
        known = self.ids.get(kind)
        if not known or draw.random() < 1 / 4 or (isinstance(value, str) and _ID.fullmatch(value)):
            return value
        return draw.choice(known)

    def _aim_query(self, query: dict[str, Any], draw: random.Random) -> dict[str, Any]:
        """A few of the parameters, often with values that mean something; all that was made up in one of eight."""
        if draw.random() < 1 / 8:
            return query
        kept = draw.sample(list(query), min(len(query), draw.randrange(4)))
        return {name: self._hit(f"?{name}", query[name], draw) for name in kept}

    def _spoil(self, case: Any, draw: random.Random) -> None:
        """Put an odd value somewhere: into the query, the path, or a place of the body."""
        # An address of 64 KiB is refused by the HTTP server, before any API sees it.
        texts = [value for value in _ODD if isinstance(value, str) and len(value) < 16_000]
        words = [value for value in texts if 0 < len(value) < 1000 and value != ".."]
        where = [name for name in ("query", "path", "body") if self._has(case, name)]
        if not where:
            return
        chosen = draw.choice(where)
        if chosen == "query":
            case.query[draw.choice(list(case.query))] = draw.choice(texts)
        elif chosen == "path":
            case.path_parameters[draw.choice(list(case.path_parameters))] = draw.choice(words)
        else:
            inside = case.body
            while True:
                key = draw.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
                if not isinstance(inside[key], dict | list) or not inside[key] or draw.random() < 1 / 5:
                    inside[key] = draw.choice(_ODD)
                    return
                inside = inside[key]

    @staticmethod
    def _has(case: Any, part: str) -> bool:
        if part == "body":
            return isinstance(case.body, dict | list) and len(case.body) > 0
        return bool(case.query if part == "query" else case.path_parameters)

    def _complete(self, case: Any, body: Any, draw: random.Random) -> Any:
        """Most requests for something new ask for something that can be made."""
        if case.method.upper() not in ("POST", "PUT") or not isinstance(body, dict) or draw.random() < 1 / 4:
            return body
        if case.path.endswith("/{key}"):
            one = {case.path_parameters["key"]: "blue"}
            return {"meta": one} if "/metadata/" in case.path else one
        if case.path.endswith(("/metadata", "extra_specs")):
            return {case.path.rpartition("/")[2].removeprefix("os-"): {"colour": "blue"}}
        if case.path == "/compute/v2.1/servers" and isinstance(body.get("server"), dict):
            wanted = {"imageRef": self._fixed["images"][0], "flavorRef": self._fixed["flavors"][0], "networks": "none"}
            return {"server": {**body["server"], **wanted}}
        if case.path == "/volume/v3/volumes" and isinstance(body.get("volume"), dict):
            kept = {key: value for key, value in body["volume"].items() if key not in ("imageRef", "volume_type")}
            return {"volume": {**kept, "size": draw.choice(self.ids["sizes"])}}
        if case.path == "/identity/v3/auth/tokens":
            user = {"name": "fuzz", "domain": {"id": "default"}, "password": "fuzz-password"}
            return {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
        return body

    def _aim_body(self, body: Any, draw: random.Random) -> Any:
        if isinstance(body, list):
            return [self._aim_body(one, draw) for one in body]
        if not isinstance(body, dict):
            return body
        aimed: dict[str, Any] = {}
        refused = draw.random() < 1 / 8
        for key, value in body.items():
            if key in _REFUSED and not refused:
                continue
            aimed[key] = self._hit(_KEYS[key], value, draw) if key in _KEYS else self._aim_body(value, draw)
        if "imageRef" in aimed and draw.random() < 3 / 4:
            aimed["networks"] = "none"
        return aimed


@contextlib.contextmanager
def open_world() -> Iterator[World]:
    """A Kevel of its own on the loopback, gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="kv-fuzz-"))
    process = KevelProcess(root, "--hypervisor", "sim")
    try:
        yield World(process, process.start())
    finally:
        process.kill()
        for pid in processes_of(root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(root, ignore_errors=True)
        root.with_suffix(".log").unlink(missing_ok=True)


def get_document(world: World, name: str, version: str | None) -> dict[str, Any]:
    """An API's document, as it is served."""
    query = {} if version is None else {"version": version}
    answer: httpx.Response = world.client.http.get(f"/{name}/openapi.json", params=query)
    answer.raise_for_status()
    document: dict[str, Any] = answer.json()
    return document
