"""Services of hosts, changed: a disabled one gets no new servers, and keeps those that it has."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from kevel.api.answers import Answer, name_answer
from kevel.api.compute import replies
from kevel.api.compute.hosts import BINARY, name_service, show_service
from kevel.api.compute.shapes import v
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.control.servers.choosing_hosts import HostView
from kevel.domain.errors import Invalid, NotFound

Why = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=255)]
#: From here on a service is named by its id.
_BY_ID: Final = v(53)


class ChosenService(Struct, forbid_unknown_fields=True):
    """Which service, until 2.52."""

    host: Name
    binary: Name


class ReasonedService(ChosenService, forbid_unknown_fields=True):
    """And why it is disabled."""

    disabled_reason: Why


class ServiceChange(Struct, forbid_unknown_fields=True):
    """A change from 2.53 on."""

    status: Literal["enabled", "disabled"] | UnsetType = UNSET
    disabled_reason: Why | UnsetType = UNSET
    forced_down: Any = UNSET


class ChangedService(Answer, kw_only=True):
    """What is told of a change until 2.52."""

    host: str
    binary: str
    status: Literal["enabled", "disabled"]
    disabled_reason: str | UnsetType = UNSET


async def enable_service(call: Call) -> Reply:
    return await _change_named(call, None)


async def disable_service(call: Call) -> Reply:
    return await _change_named(call, "")


async def disable_with_reason(call: Call) -> Reply:
    asked: ReasonedService = call.body
    return await _change_named(call, asked.disabled_reason)


async def _change_named(call: Call, reason: str | None) -> Reply:
    asked: ChosenService = call.body
    if asked.binary != BINARY:
        raise NotFound(f"Could not find binary {asked.binary[:64]} on host {asked.host[:64]}.")
    await call.services.servers.set_disabled(asked.host, reason)
    shown = {"host": asked.host, "binary": asked.binary, "status": "enabled" if reason is None else "disabled"}
    return Reply(body={"service": shown | ({"disabled_reason": reason} if reason else {})})


async def change_service(call: Call) -> Reply:
    asked: ServiceChange = call.body
    if asked.forced_down is not UNSET:
        raise Invalid(
            "Invalid input for forced_down: this Kevel does not take a host for down on somebody's word; disable it."
        )
    if asked.status is UNSET:
        raise Invalid("No updates were requested. Fields 'status' or 'disabled_reason' should be specified.")
    if asked.status == "enabled" and asked.disabled_reason is not UNSET:
        raise Invalid("Specifying 'disabled_reason' when status is 'enabled' is invalid.")
    number, view = await _find(call)
    said = asked.disabled_reason or ""  # UNSET is false
    reason = said if asked.status == "disabled" else None
    await call.services.servers.set_disabled(view.host.name, reason)
    number, view = await _find(call)
    return Reply(body={"service": show_service(call, view, number)})


async def _find(call: Call) -> tuple[int, HostView]:
    wanted = call.path["service_id"]
    for number, view in enumerate(await call.services.servers.list_hosts(), 1):
        if name_service(view) == wanted:
            return number, view
    raise NotFound(f"Service {wanted[:64]} could not be found.")


_put = partial(Operation, method="PUT", policy=Policy.ADMIN, errors=(400, 404))
_named = partial(_put, reply=name_answer("service", ChangedService), until=v(52))

OPERATIONS: Final = (
    _named(name="enableService", path="/os-services/enable", handler=enable_service, body=ChosenService),
    _named(name="disableService", path="/os-services/disable", handler=disable_service, body=ChosenService),
    _named(
        name="disableServiceWithReason",
        path="/os-services/disable-log-reason",
        handler=disable_with_reason,
        body=ReasonedService,
    ),
    _put(
        name="changeService",
        reply=name_answer("service", replies.Service),
        path="/os-services/{service_id}",
        handler=change_service,
        body=ServiceChange,
        since=_BY_ID,
    ),
)
