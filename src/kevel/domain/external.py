"""Pure rules about external attachments: who they are, who may release them, and what the old flow speaks of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from kevel.domain.ladder import Goal, Rung
from kevel.domain.model import Actor, Attachment, Origin, Path, Stage

#: Stages in which the consumer has the volume, as its client says.
HOLDING: Final = frozenset({Stage.ATTACHED, Stage.DETACHING})
#: A connector's JSON text: a handful of names and addresses.
CONNECTOR_BYTES_MAX: Final = 16 * 1024
_OLD_FLOW: Final = frozenset({Origin.RESERVE, Origin.CONNECTION, Origin.ATTACH})


def name_consumer(attachment: Attachment) -> str:
    """Who has the volume, for people."""
    if attachment.server_id is not None:
        return f"instance {attachment.server_id}"
    if attachment.instance_id is not None:
        return f"instance {attachment.instance_id}"
    if attachment.consumer_host is not None:
        return f"host {attachment.consumer_host}"
    return f"attachment {attachment.id}"


def is_reservation(attachment: Attachment) -> bool:
    """Claimed in the old flow, by nobody that has given its name yet."""
    return (
        attachment.origin in (Origin.RESERVE, Origin.CONNECTION)
        and attachment.stage is Stage.ATTACHING
        and attachment.goal is Goal.ATTACHED
    )


def is_old_flow(attachment: Attachment) -> bool:
    """Declared through the actions of volumes rather than the attachments API, and not on its way out."""
    return attachment.origin in _OLD_FLOW and attachment.goal is Goal.ATTACHED


def may_release(attachment: Attachment, paths: Iterable[Path], actor: Actor) -> bool:
    """May this caller let go of the volume for its consumer?

    Never for a server of ours: that goes through the compute API, which lets the guest go first (CVE-2023-2088). What
    another service has connected for an instance of its own, only that service releases.
    """
    if not attachment.is_external:
        return False
    if attachment.service_user_id is None or attachment.instance_id is None:
        return True
    connected = any(path.rung >= Rung.EXPORTED for path in paths)
    return not connected or actor.service_user_id == attachment.service_user_id


def find_host(connector: dict[str, Any]) -> str:
    """The connector's host, "" if it names none, as Cinder has it."""
    host = connector.get("host")
    return host if isinstance(host, str) else ""


def is_short(connector: dict[str, Any]) -> bool:
    """Is it small enough to be kept?"""
    return len(msgspec.json.encode(connector)) <= CONNECTOR_BYTES_MAX
