"""What a server's action log has to say of the requests that were made of it: all that were accepted, and no others."""

from __future__ import annotations

from typing import Final

from tests.model.users import Exchange, Users

#: Nova's name for the action of a request.
NAMES: Final = {
    "create_server": "create",
    "delete_server": "delete",
    "attach": "attach_volume",
    "detach": "detach_volume",
    "extend": "extend_volume",
    "start": "start",
    "stop": "stop",
    "reboot_soft": "reboot",
    "reboot_hard": "reboot",
    **{verb: verb for verb in ("pause", "unpause", "suspend", "resume", "rescue", "unrescue", "rebuild", "resize")},
    "confirm": "confirmResize",
    "revert": "revertResize",
    "lock": "lock",
    "unlock": "unlock",
}


async def check_actions(users: Users) -> None:
    """Compare every server's log with what its users were told, for the servers that are gone as well (S12, S13)."""
    for server in users.made("create_server"):
        reply = await users.fetch(f"/compute/v2.1/servers/{server}/os-instance-actions")
        assert reply.status == 200, reply
        listed = {one["request_id"]: one["action"] for one in reply.body["instanceActions"]}
        compare_log(server, listed, [one for one in users.exchanges if _concerns(one, server)])


def compare_log(server: str, listed: dict[str, str], mine: list[Exchange]) -> None:
    """The log, as actions by request id, against the requests that may be in it."""
    _check_accepted(server, listed, mine)
    _check_listed(server, listed, mine)


def _concerns(exchange: Exchange, server: str) -> bool:
    """May the request be in the server's log? That of a volume that grows is in those of its servers."""
    ask, reply = exchange.ask, exchange.reply
    if ask.verb == "create_server":
        return reply is not None and reply.status == 202 and reply.body["server"]["id"] == server
    return ask.verb in NAMES and (ask.server == server or ask.verb == "extend")


def _check_accepted(server: str, listed: dict[str, str], mine: list[Exchange]) -> None:
    deleting_from = min((one.called for one in mine if one.ask.verb == "delete_server"), default=None)
    for one in mine:
        if one.reply is None or one.reply.status >= 300 or one.ask.verb == "extend":
            continue
        # Of a server that is to go all volumes are detached, and it is deleted once: asking again adds nothing.
        again = one.ask.verb in ("detach", "delete_server") and deleting_from is not None
        if again and deleting_from is not None and one.answered > deleting_from:
            continue
        name = NAMES[one.ask.verb]
        assert listed.get(one.reply.request_id) == name, f"{name} of {server} was accepted and is not in its log: {one}"
    deletes = [one for one in mine if one.ask.verb == "delete_server" and one.reply and one.reply.status == 204]
    assert not deletes or "delete" in listed.values(), f"{server} was deleted, and its log does not say so"


def _check_listed(server: str, listed: dict[str, str], mine: list[Exchange]) -> None:
    known = {one.reply.request_id: one for one in mine if one.reply is not None}
    lost = [NAMES[one.ask.verb] for one in mine if one.reply is None]
    for request_id, action in listed.items():
        one = known.get(request_id)
        if one is None:
            assert action in lost, f"the log of {server} has a {action} that nobody asked for"
            lost.remove(action)
            continue
        reply = one.reply
        assert reply is not None
        assert reply.status < 300 or reply.status >= 500, f"the log of {server} has what was refused: {one}"
        assert NAMES[one.ask.verb] == action, f"the log of {server} has {action} for {one}"
