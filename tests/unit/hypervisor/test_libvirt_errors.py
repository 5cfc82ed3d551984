"""What libvirt's errors mean to a step."""

from __future__ import annotations

import libvirt
import pytest

from kevel.domain.errors import StepError, StepNever, StepRetry, StepUnknown
from kevel.hypervisor.libvirt.errors import RULES, translate_error
from kevel.hypervisor.libvirt.worker import explain_open_failure


class Raised(libvirt.libvirtError):  # type: ignore[misc]
    """An error as the binding raises it, with a code and a text of our choice."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.err = (code, 0, text, 2, None, None, None, 0, 0)

    def __str__(self) -> str:
        return str(self.args[0])


@pytest.mark.parametrize(
    ("code", "text", "outcome"),
    [
        (1, "internal error: No more available PCI slots", StepNever),
        (
            1,
            "unable to execute QEMU command 'blockdev-add': Duplicate nodes with node-name='libvirt-3-storage'",
            StepRetry,
        ),
        (1, "Hot-unplug failed: guest is busy (power indicator blinking)", StepRetry),
        (1, 'unable to execute QEMU command: Failed to get "write" lock', StepRetry),
        (27, "XML error: target 'vdb' duplicated for disk sources '/a' and '/b'", StepNever),
        (55, "Requested operation is not valid: target vdd already exists", StepNever),
        (38, "Cannot access storage file '/v': No such file or directory", StepNever),
        (1, "internal error: End of file from qemu monitor", StepRetry),
        (1, "Unable to read from monitor: Connection reset by peer", StepRetry),
        (55, "Requested operation is not valid: domain is not running", StepRetry),
        (38, "End of file while reading data: Input/output error", StepUnknown),
        (1, "internal error: client socket is closed", StepUnknown),
        (86, "Guest agent is not responding: QEMU guest agent is not connected", StepRetry),
        (68, "Timed out during operation: cannot acquire state change lock", StepRetry),
        (42, "Domain not found", StepNever),
        (1, "something that nobody has seen before", StepRetry),
    ],
)
def test_an_error_of_libvirt_leads_to_its_outcome(code: int, text: str, outcome: type[StepError]) -> None:
    assert type(translate_error(Raised(code, text), "Server one")) is outcome


def test_the_words_of_libvirt_do_not_reach_the_user() -> None:
    error = translate_error(Raised(1, "internal error: /secret/path"), "Server one")
    assert error.message == "Server one: libvirt could not carry this out."
    for rule in RULES:
        assert "(" not in rule.sentence


def test_a_missing_user_is_explained_with_what_to_do() -> None:
    assert "groupadd" in explain_open_failure("invalid argument: Failed to parse user 'libvirt-qemu'").message


def test_an_unknown_reason_stays_in_the_log() -> None:
    assert "/secret" not in explain_open_failure("internal error: /secret").message
