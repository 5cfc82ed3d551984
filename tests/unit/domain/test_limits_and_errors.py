from __future__ import annotations

import inspect

import msgspec
import pytest

from kevel.domain import errors
from kevel.domain.errors import CallerError, Conflict, KevelError, NotFound
from kevel.domain.limits import Limits

ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, KevelError)]


def test_every_limit_is_positive_and_names_its_unit() -> None:
    for name, value in msgspec.structs.asdict(Limits()).items():
        assert value > 0, name
        assert name.endswith(("_s", "_ratio", "_max")), name


def test_an_unknown_limit_is_refused_by_name() -> None:
    with pytest.raises(msgspec.ValidationError, match="attach_timeout_ms"):
        msgspec.convert({"attach_timeout_ms": 1}, Limits)


def test_a_limit_that_is_not_set_keeps_its_default() -> None:
    limits = msgspec.convert({"attach_timeout_s": 7}, Limits)
    assert (limits.attach_timeout_s, limits.detach_timeout_s) == (7.0, Limits().detach_timeout_s)


@pytest.mark.parametrize("kind", ERRORS)
def test_an_errors_docstring_is_its_default_message(kind: type[KevelError]) -> None:
    error = kind()
    assert error.message == str(error) == inspect.cleandoc(kind.__doc__ or "")
    assert error.message.endswith("."), "a message is a sentence"
    assert kind("Another one.").message == "Another one."


def test_only_callers_errors_have_a_status_and_it_is_one_of_theirs() -> None:
    for kind in ERRORS:
        assert hasattr(kind, "status") is issubclass(kind, CallerError)
    assert (NotFound.status, Conflict.status) == (404, 409)
