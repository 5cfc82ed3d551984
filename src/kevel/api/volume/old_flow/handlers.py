"""The old flow's actions: words in, a use case, words out."""

from __future__ import annotations

from kevel.api.operations import Call, Reply
from kevel.api.volume.attachments.shapes import show_connection
from kevel.control.attachments.old_flow import Use
from kevel.domain.errors import Invalid


async def reserve(call: Call) -> Reply:
    """Claim the volume."""
    await call.services.old_flow.reserve(call.actor, call.path["volume_id"])
    return Reply()


async def unreserve(call: Call) -> Reply:
    """Give the claim up."""
    await call.services.old_flow.unreserve(call.actor, call.path["volume_id"])
    return Reply()


async def begin_detaching(call: Call) -> Reply:
    """Say that it is about to be detached."""
    await call.services.old_flow.begin_detaching(call.actor, call.path["volume_id"])
    return Reply()


async def roll_detaching(call: Call) -> Reply:
    """Say that it stays attached."""
    await call.services.old_flow.roll_detaching(call.actor, call.path["volume_id"])
    return Reply()


async def attach(call: Call) -> Reply:
    """Say who uses the volume."""
    use = call.body.use
    if not use.instance_uuid and not use.host_name:
        raise Invalid("Invalid input for os-attach: it has to have instance_uuid or host_name.")
    wanted = Use(
        mountpoint=use.mountpoint,
        mode=use.mode or "rw",
        instance_id=use.instance_uuid,
        host=use.host_name,
    )
    await call.services.old_flow.attach(call.actor, call.path["volume_id"], wanted)
    return Reply()


async def detach(call: Call) -> Reply:
    """Say that the volume is not used any more."""
    which = call.body.which
    attachment_id = None if which is None else which.attachment_id
    await call.services.old_flow.detach(call.actor, call.path["volume_id"], attachment_id)
    return Reply()


async def force_detach(call: Call) -> Reply:
    """The same for an admin, whatever the volume's status is."""
    attachment_id = call.body.which.attachment_id
    await call.services.old_flow.force_detach(call.actor, call.path["volume_id"], attachment_id)
    return Reply()


async def initialize_connection(call: Call) -> Reply:
    """Let a consumer in."""
    attachment_id = await call.services.old_flow.initialize_connection(
        call.actor, call.path["volume_id"], call.body.wanted.connector
    )
    declared = await call.services.external.get(call.actor, attachment_id)
    return Reply(body={"connection_info": show_connection(declared)})


async def terminate_connection(call: Call) -> Reply:
    """Shut a consumer out."""
    connector = call.body.wanted.connector
    await call.services.old_flow.terminate_connection(call.actor, call.path["volume_id"], connector)
    return Reply()
