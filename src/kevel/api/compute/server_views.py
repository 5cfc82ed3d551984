"""Servers as the compute API shows them, at every microversion."""

from __future__ import annotations

import re
from typing import Any, Final

from kevel.api.compute.shapes import bookmark_base, host_id, show_time, show_time_us, v
from kevel.api.operations import Call
from kevel.control.servers.servers import ServerView
from kevel.domain.devices import device_prefix
from kevel.domain.model import Server, ServerRung
from kevel.domain.status import power_state, server_status, task_state, vm_state
from kevel.store.hosts import host_is_up

#: Statuses with which Nova shows a progress.
_WITH_PROGRESS: Final = ("ACTIVE", "BUILD")
_NO_HOSTNAME: Final = re.compile(r"[^a-z0-9.-]+")


def show_name(call: Call, server: Server) -> dict[str, Any]:
    """The short form of lists."""
    return {"id": server.id, "name": server.name, "links": _links(call, "servers", server.id)}


def show_server(call: Call, view: ServerView, *, shows_groups: bool = False) -> dict[str, Any]:
    """All that is shown of a server; `shows_groups` where Nova has server_groups, which is not in lists."""
    server, version = view.server, call.version
    shown = show_basics(call, server)
    deletes = version >= v(3)
    shown |= {
        "OS-EXT-AZ:availability_zone": server.availability_zone if _has_host(server) else "",
        "config_drive": "",
        "key_name": server.key_name,
        "OS-SRV-USG:launched_at": show_time_us(server.launched_at),
        "OS-SRV-USG:terminated_at": show_time_us(server.terminated_at),
        "OS-EXT-STS:task_state": task_state(server),
        "OS-EXT-STS:vm_state": vm_state(server),
        "OS-EXT-STS:power_state": power_state(server),
        "os-extended-volumes:volumes_attached": [
            {"id": one.volume_id, "delete_on_termination": one.delete_on_termination}
            if deletes
            else {"id": one.volume_id}
            for one in view.attachments
        ],
    }
    if call.caller.is_admin:
        shown |= _for_admins(call, view)
    elif version >= v(90):
        shown["OS-EXT-SRV-ATTR:hostname"] = name_host(server)
    if shows_groups and version >= v(71):
        shown["server_groups"] = [] if view.group_id is None else [view.group_id]
    if version >= v(96):
        shown["pinned_availability_zone"] = server.extras.pinned_zone
    if version >= v(100):
        shown["scheduler_hints"] = server.extras.hints
    return shown


def show_basics(call: Call, server: Server) -> dict[str, Any]:
    """The keys that every answer about a whole server has, also those of PUT before 2.75."""
    version, status = call.version, server_status(server)
    shown: dict[str, Any] = {
        "id": server.id,
        "name": server.name,
        "status": status,
        "tenant_id": server.project_id,
        "user_id": server.user_id,
        "metadata": server.metadata,
        "hostId": host_id(server.project_id, server.host) if _has_host(server) else "",
        "image": _image(call, server),
        "flavor": _flavor(call, server),
        "created": show_time(server.created_at),
        "updated": show_time(server.updated_at or server.created_at),
        "addresses": {},
        "accessIPv4": server.extras.access_v4,
        "accessIPv6": server.extras.access_v6,
        "links": _links(call, "servers", server.id),
        "OS-DCF:diskConfig": "AUTO" if server.extras.auto_disk else "MANUAL",
    }
    if status in _WITH_PROGRESS:
        shown["progress"] = 0
    if status in ("ERROR", "DELETED") and server.fault is not None:
        shown["fault"] = {"code": 500, "created": show_time(server.fault.at), "message": server.fault.message}
    if version >= v(9):
        shown["locked"] = server.locked
    if version >= v(19):
        shown["description"] = server.description
    if version >= v(26):
        shown["tags"] = list(server.extras.tags)
    if version >= v(63):
        shown["trusted_image_certificates"] = None
    if version >= v(73):
        shown["locked_reason"] = server.extras.lock_reason
    return shown


def _for_admins(call: Call, view: ServerView) -> dict[str, Any]:
    server, version = view.server, call.version
    shown: dict[str, Any] = {
        "OS-EXT-SRV-ATTR:host": server.host if _has_host(server) else None,
        # What drivers call the domain; see kevel.hypervisor.
        "OS-EXT-SRV-ATTR:instance_name": f"kevel-{server.id}",
        "OS-EXT-SRV-ATTR:hypervisor_hostname": None,
    }
    if _has_host(server):
        shown["OS-EXT-SRV-ATTR:hypervisor_hostname"] = view.host.facts.get("hostname", server.host)
    if version >= v(3):
        properties = server.image.get("properties") or {}
        shown |= {
            "OS-EXT-SRV-ATTR:hostname": name_host(server),
            "OS-EXT-SRV-ATTR:kernel_id": properties.get("kernel_id", ""),
            "OS-EXT-SRV-ATTR:ramdisk_id": properties.get("ramdisk_id", ""),
            "OS-EXT-SRV-ATTR:launch_index": server.extras.launch_index,
            "OS-EXT-SRV-ATTR:reservation_id": server.extras.reservation_id,
            "OS-EXT-SRV-ATTR:root_device_name": f"/dev/{device_prefix(server.image)}a",
            "OS-EXT-SRV-ATTR:user_data": None,
        }
    if version >= v(16):
        shown["host_status"] = _host_status(call, view)
    return shown


def _has_host(server: Server) -> bool:
    """A shelved server that was offloaded has none; its row keeps the last one."""
    return server.rung is not ServerRung.OFFLOADED


def _host_status(call: Call, view: ServerView) -> str:
    if not _has_host(view.server):
        return ""
    if view.host.disabled_reason is not None:
        return "MAINTENANCE"
    return "UP" if host_is_up(view.host, call.services.runtime.clock.now_us()) else "UNKNOWN"


def name_host(server: Server) -> str:
    """The host name that was chosen, or else the one that follows from the server's name, as Nova derives it."""
    if server.extras.hostname:
        return server.extras.hostname
    name = _NO_HOSTNAME.sub("-", server.name.lower().replace("_", "-")).strip(".-")[:63]
    return name or f"server-{server.id}"


def _links(call: Call, collection: str, thing_id: str) -> list[dict[str, str]]:
    return [
        {"rel": "self", "href": f"{call.base_url}/{collection}/{thing_id}"},
        {"rel": "bookmark", "href": f"{bookmark_base(call)}/{collection}/{thing_id}"},
    ]


def _image(call: Call, server: Server) -> dict[str, Any] | str:
    """A server that boots from a volume has none: Nova shows an empty text."""
    image_id = server.image["id"]
    if not image_id:
        return ""
    shown: dict[str, Any] = {"id": image_id, "links": _links(call, "images", image_id)[1:]}
    if call.version >= v(98):
        shown["properties"] = server.image.get("properties") or {}
    return shown


def _flavor(call: Call, server: Server) -> dict[str, Any]:
    flavor = server.flavor
    if call.version < v(47):
        return {"id": flavor["id"], "links": _links(call, "flavors", flavor["id"])[1:]}
    return {
        "vcpus": flavor["vcpus"],
        "ram": flavor["ram_mib"],
        "disk": flavor["disk_gib"],
        "ephemeral": flavor["ephemeral_gib"],
        "swap": flavor["swap_mib"],
        "original_name": flavor["name"],
        "extra_specs": flavor["extra_specs"],
    }
