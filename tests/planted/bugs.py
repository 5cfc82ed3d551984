"""All planted bugs, by where they sit."""

from __future__ import annotations

from typing import Final

from tests.planted import in_control, in_the_store, on_the_host
from tests.planted.planting import Bug

BUGS: Final[dict[str, Bug]] = {bug.name: bug for bug in (*on_the_host.BUGS, *in_the_store.BUGS, *in_control.BUGS)}
