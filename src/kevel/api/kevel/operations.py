"""The table of /kevel/v1 and its handlers."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from kevel.api.kevel import replies
from kevel.api.kevel.hosts import OPERATIONS as HOSTS
from kevel.api.kevel.views import show_account, show_examination, show_swap_row
from kevel.api.operations import VERSIONS_PATH, Api, Call, ErrorStyle, Operation, Policy, Reply
from kevel.control.attachments.explaining import WAIT_S_MAX
from kevel.store.accounts import AccountFilter

#: Rows of one page.
PAGE_ROWS_MAX: Final = 1000
PAGE_ROWS: Final = 100

Id = Annotated[str, msgspec.Meta(max_length=64)]
Limit = Annotated[int, msgspec.Meta(ge=1, le=PAGE_ROWS_MAX)]


class ListQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which attachments; open ones, if nothing is said."""

    server_id: Id | None = None
    volume_id: Id | None = None
    #: Only those that are not where they should be.
    unfinished: bool = False
    #: Closed ones too.
    closed: bool = False
    #: Of all projects, for admins.
    all_projects: bool = False
    limit: Limit = PAGE_ROWS
    marker: Id | None = None


class JournalQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which lines."""

    #: Only those after the line with this `seq`.
    since: Annotated[int, msgspec.Meta(ge=0, le=2**62)] = 0
    limit: Limit = PAGE_ROWS_MAX
    #: How many seconds to wait for a line when there is none.
    wait: Annotated[float, msgspec.Meta(ge=0, le=WAIT_S_MAX)] = 0.0


class SwapBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The volume that is to take the place."""

    volume_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


async def show_versions(call: Call) -> Reply:
    """The one version."""
    link = {"rel": "self", "href": call.base_url}
    return Reply(body={"versions": [{"id": "v1", "status": "CURRENT", "links": [link]}]})


async def list_attachments(call: Call) -> Reply:
    """Attachments, newest first, each with the reason why it is where it is."""
    query: ListQuery = call.query
    everywhere = query.all_projects and call.caller.is_admin
    wanted = AccountFilter(
        project_id=None if everywhere else call.actor.project_id,
        server_id=query.server_id,
        volume_id=query.volume_id,
        unfinished=query.unfinished,
        closed=query.closed,
        marker=query.marker,
        limit=query.limit,
    )
    explaining, now = call.services.explaining, call.services.runtime.clock.now_us()
    found, has_more = await explaining.accounts(wanted)
    rows = [show_account(one, explaining.next_look(one), now, layers=False) for one in found]
    if not has_more:
        return Reply(body={"attachments": rows})
    url = call.request.url.include_query_params(marker=rows[-1]["id"])
    return Reply(body={"attachments": rows, "attachments_links": [{"rel": "next", "href": str(url)}]})


async def show_attachment(call: Call) -> Reply:
    """An attachment, open or closed: what is wanted, what was last seen of each layer, and why it is where it is."""
    explaining, now = call.services.explaining, call.services.runtime.clock.now_us()
    account = await explaining.account(call.actor, _id(call))
    return Reply(body={"attachment": show_account(account, explaining.next_look(account), now)})


async def show_journal(call: Call) -> Reply:
    """Every move of an attachment and its paths, oldest first; with `wait`, the answer comes with the next one."""
    query: JournalQuery = call.query
    lines = await call.services.explaining.journal(
        call.actor, _id(call), since=query.since, limit=query.limit, wait_s=query.wait
    )
    return Reply(body={"journal": [msgspec.to_builtins(line) for line in lines]})


async def retry_attachment(call: Call) -> Reply:
    """Have everybody who holds a part of it look again now, and with suspicion."""
    await call.services.explaining.retry(call.actor, _id(call))
    return Reply()


async def swap_attachment(call: Call) -> Reply:
    """Give the running guest another volume in this one's place, with its contents; `show_swap` tells how it goes."""
    body: SwapBody = call.body
    return Reply(body={"swap": show_swap_row(await call.services.swaps.swap(call.actor, _id(call), body.volume_id))})


async def show_swap(call: Call) -> Reply:
    """The attachment's newest swap, running or over."""
    return Reply(body={"swap": show_swap_row(await call.services.swaps.find(call.actor, _id(call)))})


async def cancel_swap(call: Call) -> Reply:
    """Give the running swap up: the attachment keeps its volume, and the other one is let go of."""
    await call.services.swaps.cancel(call.actor, _id(call))
    return Reply()


async def list_server_attachments(call: Call) -> Reply:
    """Every attachment that the server has had, closed ones included, oldest first."""
    explaining, now = call.services.explaining, call.services.runtime.clock.now_us()
    found = await explaining.accounts_of_server(call.actor, call.path["server_id"])
    return Reply(body={"attachments": [show_account(one, explaining.next_look(one), now) for one in found]})


async def show_findings(call: Call) -> Reply:
    """What the newest comparisons of records and reality found."""
    return Reply(body={"examination": show_examination(await call.services.comparison.known())})


async def examine(call: Call) -> Reply:
    """Compare records, storage and every host once, now."""
    return Reply(body={"examination": show_examination(await call.services.comparison.examine())})


def _id(call: Call) -> str:
    return call.path["attachment_id"]


OPERATIONS = (
    Operation(
        name="show_versions",
        method="GET",
        path=VERSIONS_PATH,
        handler=show_versions,
        policy=Policy.PUBLIC,
        success=300,
        reply=replies.VERSIONS,
    ),
    Operation(
        name="list_attachments",
        method="GET",
        path="/attachments",
        handler=list_attachments,
        policy=Policy.READER,
        query=ListQuery,
        errors=(400, 404),
        reply=replies.ATTACHMENTS,
        new_id="/attachments/0/id",
    ),
    Operation(
        name="show_attachment",
        method="GET",
        path="/attachments/{attachment_id}",
        handler=show_attachment,
        policy=Policy.READER,
        errors=(404,),
        reply=replies.ATTACHMENT,
    ),
    Operation(
        name="show_attachment_journal",
        method="GET",
        path="/attachments/{attachment_id}/journal",
        handler=show_journal,
        policy=Policy.READER,
        query=JournalQuery,
        errors=(400, 404),
        reply=replies.JOURNAL,
    ),
    Operation(
        name="retry_attachment",
        method="POST",
        path="/attachments/{attachment_id}/retry",
        handler=retry_attachment,
        policy=Policy.MEMBER,
        success=202,
        errors=(404, 409),
        reply=None,
    ),
    Operation(
        name="swap_attachment",
        method="POST",
        path="/attachments/{attachment_id}/swap",
        handler=swap_attachment,
        policy=Policy.MEMBER,
        success=202,
        errors=(400, 404, 409),
        body=SwapBody,
        reply=replies.SWAP,
        needs_space=True,
    ),
    Operation(
        name="show_swap",
        method="GET",
        path="/attachments/{attachment_id}/swap",
        handler=show_swap,
        policy=Policy.READER,
        errors=(404,),
        reply=replies.SWAP,
    ),
    Operation(
        name="cancel_swap",
        method="DELETE",
        path="/attachments/{attachment_id}/swap",
        handler=cancel_swap,
        policy=Policy.MEMBER,
        success=202,
        errors=(404, 409),
        reply=None,
    ),
    Operation(
        name="list_server_attachments",
        method="GET",
        path="/servers/{server_id}/attachments",
        handler=list_server_attachments,
        policy=Policy.READER,
        errors=(404,),
        reply=replies.SERVER_ATTACHMENTS,
    ),
    Operation(
        name="show_findings",
        method="GET",
        path="/doctor",
        handler=show_findings,
        policy=Policy.ADMIN,
        reply=replies.EXAMINATION,
    ),
    Operation(
        name="examine",
        method="POST",
        path="/doctor",
        handler=examine,
        policy=Policy.ADMIN,
        reply=replies.EXAMINATION,
    ),
    *HOSTS,
)

API = Api(name="kevel", prefix="/kevel/v1", operations=OPERATIONS, error_style=ErrorStyle.COMPUTE)
