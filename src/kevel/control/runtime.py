"""What every use case stands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kevel.runtime.ports import Clock, Executor, Ids
from kevel.store.transactions import Store


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Store, clock, ids and threads: the ports that the simulator replaces."""

    store: Store
    clock: Clock
    ids: Ids
    executor: Executor
    #: False while space that is kept back for freeing things has been given up; then nothing may be taken on.
    has_space: Callable[[], bool] = lambda: True
