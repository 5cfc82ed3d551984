"""What other services tell of servers: os-server-external-events.

A volume's news (a real Cinder that extended or reimaged it) makes the host's agent look at the server once more: the
look compares, so an event that is late, lost or wrong does no harm. Networks' news are taken: no server here has any.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from kevel.api.answers import Answer, name_answer
from kevel.api.compute.shapes import UUID, v
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.control.servers.records import ServerNews
from kevel.domain.errors import Invalid, NotFound

#: Events of one request.
EVENTS_MAX: Final = 1000
_NETWORK: Final = frozenset(("network-changed", "network-vif-plugged", "network-vif-unplugged", "network-vif-deleted"))
#: Events about a volume, which their tag names, by the microversion that brought them.
_VOLUME: Final = {"volume-extended": v(51), "volume-reimaged": v(93)}


class Event(Struct, forbid_unknown_fields=True):
    """One event."""

    name: Annotated[str, Meta(max_length=255)]
    server_uuid: str
    status: Literal["failed", "completed", "in-progress"] = "completed"
    tag: Annotated[str, Meta(max_length=255)] | UnsetType = UNSET


class EventsBody(Struct, forbid_unknown_fields=True):
    """Several events."""

    events: Annotated[list[Event], Meta(min_length=1, max_length=EVENTS_MAX)]


class TakenEvent(Answer, kw_only=True):
    """An event, and what became of it."""

    name: str
    server_uuid: str
    status: Literal["failed", "completed", "in-progress"]
    code: Literal[200, 400, 404]
    tag: str | UnsetType = UNSET


async def take_events(call: Call) -> Reply:
    """200 when all were taken; 207 when some were not, each with its code. Raises NotFound when none was."""
    events: list[Event] = call.body.events
    for event in events:
        _check_event(call, event)
    news = [ServerNews(server_id=event.server_uuid, volume_id=_read_volume(event)) for event in events]
    known = await call.services.servers.hear(call.actor, news)
    shown = [_show(event, found=found) for event, found in zip(events, known, strict=True)]
    codes = {one["code"] for one in shown}
    if codes == {404}:
        raise NotFound("No instances found for any event")
    return Reply(body={"events": shown}, status=200 if codes == {200} else 207)


def _check_event(call: Call, event: Event) -> None:
    since = _VOLUME.get(event.name)
    if event.name not in _NETWORK and (since is None or call.version < since):
        raise Invalid(f"Invalid input for events.name: {event.name[:64]!r} is no event of this microversion.")
    if not UUID.fullmatch(event.server_uuid):
        raise Invalid(f"Invalid input for events.server_uuid: {event.server_uuid[:64]!r} is no server's id.")


def _read_volume(event: Event) -> str | None:
    return event.tag if event.name in _VOLUME and event.tag is not UNSET else None


def _show(event: Event, *, found: bool) -> dict[str, Any]:
    code = 200 if found else 404
    if code == 200 and event.name in _VOLUME and event.tag is UNSET:
        code = 400
    shown: dict[str, Any] = {
        "name": event.name,
        "server_uuid": event.server_uuid,
        "status": event.status if code == 200 else "failed",
        "code": code,
    }
    return shown | ({} if event.tag is UNSET else {"tag": event.tag})


OPERATIONS: Final = (
    Operation(
        name="takeServerExternalEvents",
        reply=name_answer("events", list[TakenEvent]),
        method="POST",
        path="/os-server-external-events",
        handler=take_events,
        policy=Policy.SERVICE,
        errors=(400, 404),
        body=EventsBody,
        others=(207,),
    ),
)
