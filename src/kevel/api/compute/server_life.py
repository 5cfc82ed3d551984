"""The actions that change a server's life: start, stop, reboot, pause, suspend, their opposites, os-resetState."""

from __future__ import annotations

from typing import Final

from kevel.api.compute import server_bodies as bodies
from kevel.api.operations import Call, Handler, Operation, Policy, Reply


def _asking(action: str) -> Handler:
    async def ask(call: Call) -> Reply:
        await call.services.servers.ask(call.actor, call.path["server_id"], action)
        return Reply()

    return ask


async def reboot_server(call: Call) -> Reply:
    await call.services.servers.reboot(call.actor, call.path["server_id"], bodies.read_boot_kind(call))
    return Reply()


async def force_delete(call: Call) -> Reply:
    """Every deletion is at once: Kevel keeps no deleted server for a while."""
    await call.services.servers.delete(call.actor, call.path["server_id"])
    return Reply()


async def restore_server(call: Call) -> Reply:
    await call.services.servers.restore(call.actor, call.path["server_id"])
    return Reply()


async def reset_server(call: Call) -> Reply:
    body: bodies.ResetBody = call.body
    await call.services.servers.reset_state(call.actor, call.path["server_id"], body.reset.state)
    return Reply()


_ACTION: Final = "/servers/{server_id}/action"
#: The operation's name, the key of its body, and Nova's name for the action.
_PLAIN: Final = (
    ("startServer", "os-start", "start"),
    ("stopServer", "os-stop", "stop"),
    ("pauseServer", "pause", "pause"),
    ("unpauseServer", "unpause", "unpause"),
    ("suspendServer", "suspend", "suspend"),
    ("resumeServer", "resume", "resume"),
)

OPERATIONS: Final = (
    *(
        Operation(
            name=name,
            reply=None,
            method="POST",
            path=_ACTION,
            action=key,
            handler=_asking(action),
            policy=Policy.MEMBER,
            success=202,
            errors=(404, 409),
        )
        for name, key, action in _PLAIN
    ),
    Operation(
        name="rebootServer",
        reply=None,
        method="POST",
        path=_ACTION,
        action="reboot",
        handler=reboot_server,
        policy=Policy.MEMBER,
        success=202,
        errors=(400, 404, 409),
        body=bodies.RebootBody,
    ),
    Operation(
        name="forceDeleteServer",
        reply=None,
        method="POST",
        path=_ACTION,
        action="forceDelete",
        handler=force_delete,
        policy=Policy.MEMBER,
        success=202,
        errors=(404, 409),
    ),
    Operation(
        name="restoreServer",
        reply=None,
        method="POST",
        path=_ACTION,
        action="restore",
        handler=restore_server,
        policy=Policy.MEMBER,
        success=202,
        errors=(404, 409),
    ),
    Operation(
        name="resetServerState",
        reply=None,
        method="POST",
        path=_ACTION,
        action="os-resetState",
        handler=reset_server,
        policy=Policy.ADMIN,
        success=202,
        errors=(400, 403, 404),
        body=bodies.ResetBody,
    ),
)
