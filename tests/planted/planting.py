"""How a bug is put into the product and taken out again, and how a planted bug is told from a broken switch."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import Executable

from kevel.domain.errors import KevelError
from kevel.store.statements import Rows
from kevel.store.transactions import Tx

HERE: Final = str(Path(__file__).parent)


class Planting:
    """What one switch has changed; leaving the context takes all of it out.

    Every replacement calls `bite` where it does the wrong thing, so a run can tell whether the bug was met at all.
    """

    def __init__(self, *, probe: bool = False) -> None:
        #: Change nothing, only count what the product calls of what would be changed.
        self._probe = probe
        #: Calls and statements, by target; only of a probe.
        self.reached: dict[str, int] = {}
        self.bites = 0
        #: Errors of the switches themselves: they would pass for findings.
        self.broken: list[BaseException] = []
        #: What was there before: owner, name, original.
        self.originals: list[tuple[Any, str, Any]] = []
        self._stack = ExitStack()
        self._restated: dict[int, Executable] = {}
        self._names: dict[int, str] = {}

    def bite(self) -> None:
        """The wrong code runs now."""
        self.bites += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def replace(self, target: str, make: Callable[[Any], Any], *, everywhere: bool = True) -> None:
        """Put `make(original)` in the place of `module:name` or `module:Class.name`.

        A function is replaced in every module that has imported it by its name, unless `everywhere` is False. Raises
        AttributeError when the product has no such thing any more.
        """
        module_name, _, path = target.partition(":")
        *outer, name = path.split(".")
        owner: Any = importlib.import_module(module_name)
        for part in outer:
            owner = getattr(owner, part)
        original = inspect.getattr_static(owner, name) if outer else getattr(owner, name)
        replacement = self._count(target, original) if self._probe else self._guard(make(original), original)
        alone = outer or not everywhere
        owners = [owner] if alone else [each for each in _kevel_modules() if vars(each).get(name) is original]
        for each in owners:
            self._set(each, name, replacement)

    def _set(self, owner: Any, name: str, value: Any) -> None:
        original = inspect.getattr_static(owner, name)
        self.originals.append((owner, name, original))
        self._stack.callback(setattr, owner, name, original)
        setattr(owner, name, value)

    def _count(self, target: str, original: Any) -> Any:
        self.reached.setdefault(target, 0)

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.reached[target] += 1
            return original(*args, **kwargs)

        return call

    def restate(self, target: str, make: Callable[[Any], Executable]) -> None:
        """Have the store run `make(statement)` whenever the product runs the statement `module:name`."""
        module_name, _, name = target.partition(":")
        statement = getattr(importlib.import_module(module_name), name)
        if not self._restated:
            self._set(Tx, "execute", self._execute_restated(Tx.execute))
        self._restated[id(statement)] = statement if self._probe else make(statement)
        self._names[id(statement)] = target
        self.reached[target] = 0

    def _execute_restated(self, execute: Callable[..., Rows]) -> Callable[..., Rows]:
        def run(tx: Tx, statement: Executable, values: Any = None) -> Rows:
            other = self._restated.get(id(statement))
            if other is None:
                return execute(tx, statement, values)
            self.reached[self._names[id(statement)]] += 1
            self.bite()
            return execute(tx, other, values)

        return run

    def _guard(self, replacement: Any, original: Any) -> Any:
        """Note what a replacement raises by its own mistake: the product would only log it and try again."""
        if not callable(replacement) or isinstance(replacement, type):
            return replacement
        if inspect.iscoroutinefunction(replacement):

            @functools.wraps(original)
            async def wait(*args: Any, **kwargs: Any) -> Any:
                try:
                    return await replacement(*args, **kwargs)
                except Exception as error:
                    self._note(error)
                    raise

            return wait

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return replacement(*args, **kwargs)
            except Exception as error:
                self._note(error)
                raise

        return call

    def _note(self, error: Exception) -> None:
        at = error.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        # A KevelError is raised on purpose; anything else that begins in this package is a switch that does not work.
        if at is not None and at.tb_frame.f_code.co_filename.startswith(HERE) and not isinstance(error, KevelError):
            self.broken.append(error)


@dataclass(frozen=True)
class Bug:
    """One protocol bug: its name, what it stands for in the world, and the switch that plants it."""

    name: str
    stands_for: str
    plant: Callable[[Planting], None]
    #: Why no finder sees it, where that is known: it is harmless as things are, or a fault is missing. Then it is
    #: hunted only when it is named.
    unseen: str = ""


def _kevel_modules() -> list[Any]:
    return [module for name, module in sorted(sys.modules.items()) if name.partition(".")[0] == "kevel"]


def bug(stands_for: str, *, unseen: str = "") -> Callable[[Callable[[Planting], None]], Bug]:
    """Make a function that plants a bug into the bug of that name."""
    return lambda plant: Bug(name=plant.__name__, stands_for=stands_for, plant=plant, unseen=unseen)
