"""What libvirt's errors mean to a step of the ladder: one table, first match wins.

libvirt's own words go to the log and never to a user; the short sentence of the matching rule does.
Code 99 (the device is not there) is not in the table: whoever removes a device treats it as success.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import libvirt

from kevel.domain.errors import StepError, StepNever, StepRetry, StepUnknown


class Rule(NamedTuple):
    """An error of libvirt: its code (None: any), words to find in its text, and what that means."""

    code: int | None
    words: str
    outcome: type[StepError]
    sentence: str


PROCESS_ENDED = Rule(
    None,
    r"End of file from qemu monitor|Unable to (read from|write to) monitor|process exited",
    StepRetry,
    "the guest's process ended during the call",
)
NOT_RUNNING = Rule(
    libvirt.VIR_ERR_OPERATION_INVALID, r"domain is not running", StepRetry, "the guest is not running any more"
)

RULES = (
    Rule(
        None,
        r"No more available PCI slots|No more available PCI addresses",
        StepNever,
        "there is no free slot for another volume; detach one first",
    ),
    Rule(None, r"Cannot grow NBD nodes", StepRetry, "QEMU has not yet seen that the volume has grown"),
    Rule(
        None,
        r"Requested export not available|Failed to connect to '",
        StepRetry,
        "QEMU does not reach the volume's export yet",
    ),
    Rule(None, r"Duplicate nodes with node-name", StepRetry, "QEMU still holds what an earlier attempt left"),
    Rule(
        None,
        r"guest is busy|already in the process of unplug",
        StepRetry,
        "the guest is still busy with an earlier removal",
    ),
    Rule(None, r"Failed to get .* lock", StepRetry, "the volume is still open in another guest"),
    Rule(
        None,
        r"target '?\S+'? (duplicated|already exists)|already contains a disk with that address|double use|"
        r"Duplicate ID",
        StepNever,
        "the device name or unit number is taken by another disk",
    ),
    Rule(libvirt.VIR_ERR_SYSTEM_ERROR, r"Cannot access storage file", StepNever, "the disk's file cannot be opened"),
    Rule(None, r"Could not open '.*': No such file", StepNever, "the disk's file cannot be opened"),
    Rule(None, r"Invalid password, cannot unlock", StepNever, "the volume's key does not open it"),
    Rule(libvirt.VIR_ERR_NO_SECRET, r"", StepRetry, "the key of an encrypted volume has not arrived yet"),
    PROCESS_ENDED,
    NOT_RUNNING,
    Rule(
        None,
        r"client socket is closed|End of file while reading data|Cannot write data: Broken pipe",
        StepUnknown,
        "the connection to libvirt was lost during the call",
    ),
    Rule(libvirt.VIR_ERR_RPC, r"", StepUnknown, "the connection to libvirt was lost during the call"),
    Rule(libvirt.VIR_ERR_NO_DOMAIN, r"", StepNever, "there is no such domain"),
    Rule(libvirt.VIR_ERR_OPERATION_TIMEOUT, r"", StepRetry, "another operation on the guest is still under way"),
    Rule(libvirt.VIR_ERR_AGENT_UNRESPONSIVE, r"", StepRetry, "no agent answers in the guest"),
    Rule(libvirt.VIR_ERR_AGENT_UNSYNCED, r"", StepRetry, "the agent in the guest does not answer in step"),
    Rule(libvirt.VIR_ERR_XML_ERROR, r"", StepNever, "libvirt refuses the definition"),
    Rule(libvirt.VIR_ERR_XML_DETAIL, r"", StepNever, "libvirt refuses the definition"),
    Rule(libvirt.VIR_ERR_CONFIG_UNSUPPORTED, r"", StepNever, "this host cannot do what the definition asks for"),
    Rule(libvirt.VIR_ERR_INVALID_ARG, r"", StepNever, "libvirt refuses the request"),
)

OTHERWISE = Rule(None, r"", StepRetry, "libvirt could not carry this out")


def find_rule(error: libvirt.libvirtError) -> Rule:
    """The rule for an error that libvirt raised."""
    code, text = error.get_error_code(), str(error)
    for rule in RULES:
        if rule.code in (None, code) and re.search(rule.words, text):
            return rule
    return OTHERWISE


def translate_error(error: libvirt.libvirtError, subject: str) -> StepError:
    """The step's outcome for an error that libvirt raised; `subject` names the thing in the user's sentence."""
    rule = find_rule(error)
    return rule.outcome(f"{subject}: {rule.sentence}.")


def is_device_missing(error: libvirt.libvirtError) -> bool:
    """Whether libvirt says that the device to be removed is not there."""
    return bool(error.get_error_code() == libvirt.VIR_ERR_DEVICE_MISSING)


def is_process_gone(error: libvirt.libvirtError) -> bool:
    """Whether libvirt says that the guest's process is not there, or ended during the call."""
    return find_rule(error) in (PROCESS_ENDED, NOT_RUNNING)
