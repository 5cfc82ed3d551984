"""Every wait and bound that an operator may change, with its default."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

#: Three years are as good as for ever. Zero would be a busy loop, and nan compares with nothing.
Seconds = Annotated[float, Meta(gt=0, le=1e8)]
Count = Annotated[int, Meta(ge=1, le=2**62)]
Ratio = Annotated[float, Meta(gt=0, le=1e6)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[limits]` table of the configuration file."""

    #: An attach that has not plugged its disk by then is rolled back.
    attach_timeout_s: Seconds = 120.0
    #: A detach that the guest has not answered by then ends, with the attachment whole.
    detach_timeout_s: Seconds = 60.0
    #: What the storage gets to let an external consumer in, or to shut it out, before the request is answered.
    export_wait_s: Seconds = 60.0
    #: How often a silent guest is asked again to let go of a disk.
    unplug_ask_again_s: Seconds = 3.0
    #: How often a disk that was asked to go is looked at, besides events.
    unplug_look_s: Seconds = 0.5
    #: Building, starting and rebooting a server.
    server_timeout_s: Seconds = 300.0
    #: What a guest gets to shut itself down before its power is cut.
    shutdown_grace_s: Seconds = 30.0
    #: What a guest gets to reboot itself before it is rebooted hard.
    reboot_grace_s: Seconds = 30.0
    #: Work on a volume, snapshot or backup: creating, growing, deleting it.
    volume_timeout_s: Seconds = 600.0
    #: Added to that for each GiB that is copied.
    copy_gib_timeout_s: Seconds = 60.0
    #: What a hypervisor call may take before the agent stops waiting for it (the call still counts as under way).
    effect_wait_s: Seconds = 20.0
    #: What a request that a host's agent has to look for waits, before it is told to come back.
    answer_wait_s: Seconds = 10.0
    #: A hypervisor call that has not ended by then ends with the death of the process that made it.
    effect_limit_s: Seconds = 45.0
    #: How often rows and reality are looked at although nobody asked.
    sweep_every_s: Seconds = 10.0
    #: How often storage and records are compared whole.
    compare_every_s: Seconds = 60.0
    #: How long a token is good for.
    token_lifetime_s: Seconds = 3600.0
    #: Volumes may be provisioned up to this many times the pool's size.
    overcommit_ratio: Ratio = 20.0
    #: The largest image that may be uploaded.
    image_bytes_max: Count = 64 * 1024**3
    #: An upload of which nothing has come for so long ends.
    upload_idle_s: Seconds = 60.0
    #: Images that one project may have.
    images_per_project_max: Count = 1000
    #: Rows in one page of a list.
    page_rows_max: Count = 1000

    def volume_deadline(self, at: int, *, copied_gib: int = 0) -> int:
        """When work on a volume, snapshot or backup is given up that begins now and copies so much."""
        return at + int((self.volume_timeout_s + copied_gib * self.copy_gib_timeout_s) * 1e6)
