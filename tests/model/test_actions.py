"""The comparison of a server's action log with what users were told: it sees what is missing and what is too much."""

from __future__ import annotations

import pytest

from tests.model.actions import compare_log
from tests.model.model import Request
from tests.model.users import Exchange, Reply


def asked(verb: str, status: int | None, at: int = 1) -> Exchange:
    """A request on the server, whose id is its verb and moment; no status: nobody answered."""
    reply = None if status is None else Reply(status, f"{verb}-{at}", None)
    return Exchange(Request(verb, "p", server="s"), "ann", at, at + 1, reply)


def test_a_log_with_all_that_was_accepted_and_what_was_lost_is_fine() -> None:
    mine = [asked("stop", 202), asked("start", None), asked("start", 409, 5), asked("attach", 500, 7)]
    compare_log("s", {"stop-1": "stop"}, mine)
    compare_log("s", {"stop-1": "stop", "unknown": "start", "attach-7": "attach_volume"}, mine)


def test_what_was_asked_of_a_server_that_goes_need_not_be_there_twice() -> None:
    mine = [asked("delete_server", 204), asked("delete_server", 204, 5), asked("detach", 202, 7)]
    compare_log("s", {"delete_server-1": "delete"}, mine)


@pytest.mark.parametrize(
    ("listed", "mine", "text"),
    [
        ({}, [asked("stop", 202)], "stop of s was accepted and is not in its log"),
        ({"stop-1": "start"}, [asked("stop", 202)], "stop of s was accepted and is not in its log"),
        ({"stop-1": "stop"}, [asked("stop", 409)], "the log of s has what was refused"),
        ({"other": "stop"}, [asked("start", None)], "a stop that nobody asked for"),
        ({"other": "stop", "another": "stop"}, [asked("stop", None)], "a stop that nobody asked for"),
        ({}, [asked("delete_server", 204)], "s was deleted, and its log does not say so"),
        ({"stop-1": "start"}, [asked("stop", 500)], "the log of s has start for"),
    ],
)
def test_what_is_missing_and_what_is_too_much_are_seen(listed: dict[str, str], mine: list[Exchange], text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        compare_log("s", listed, mine)
