"""The rows of the old flow."""

from __future__ import annotations

from typing import Final

from kevel.api.operations import Policy
from kevel.api.volume import replies
from kevel.api.volume.old_flow import bodies, handlers
from kevel.api.volume.rows import act

OLD_FLOW: Final = (
    act(name="reserveVolume", needs_space=True, action="os-reserve", handler=handlers.reserve),
    act(name="unreserveVolume", action="os-unreserve", handler=handlers.unreserve, errors=(404,)),
    act(name="beginDetaching", action="os-begin_detaching", handler=handlers.begin_detaching),
    act(name="rollDetaching", action="os-roll_detaching", handler=handlers.roll_detaching, errors=(404,)),
    act(
        name="declareAttached",
        needs_space=True,
        action="os-attach",
        handler=handlers.attach,
        body=bodies.Attach,
    ),
    act(
        name="declareDetached",
        action="os-detach",
        handler=handlers.detach,
        body=bodies.Detach,
        errors=(400, 404, 409),
    ),
    act(
        name="forceDetach",
        action="os-force_detach",
        handler=handlers.force_detach,
        body=bodies.ForceDetach,
        errors=(400, 404, 409),
        policy=Policy.ADMIN,
    ),
    act(
        name="initializeConnection",
        needs_space=True,
        reply=replies.CONNECTION,
        action="os-initialize_connection",
        handler=handlers.initialize_connection,
        body=bodies.Initialize,
        success=200,
        errors=(400, 404, 409, 500),
    ),
    act(
        name="terminateConnection",
        action="os-terminate_connection",
        handler=handlers.terminate_connection,
        body=bodies.Terminate,
        errors=(400, 404, 409),
    ),
)
