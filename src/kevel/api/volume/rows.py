"""What rows of the block storage table share: method, who may, and the parameters of a page."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.operations import Operation, Policy

public = partial(Operation, method="GET", policy=Policy.PUBLIC)
read = partial(Operation, method="GET", policy=Policy.READER)
write = partial(Operation, policy=Policy.MEMBER)
act = partial(
    Operation,
    method="POST",
    path="/volumes/{volume_id}/action",
    policy=Policy.MEMBER,
    success=202,
    errors=(400, 404),
    reply=None,
)
admin = partial(Operation, policy=Policy.ADMIN)

PAGE_QUERY: Final = ("limit", "offset", "marker", "sort", "sort_key", "sort_dir")
