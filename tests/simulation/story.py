"""The story of a run, as a person reads it: who did what, what went wrong, and what the records say at the end."""

from __future__ import annotations

import re
from collections.abc import Callable

from rich.console import Console

from kevel.domain.ladder import Rung
from tests.simulation.run import Run, replay

_UUID = re.compile(r"([0-9a-f]{8})-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_QUIET = ("observe_server", "observe_all")


def print_story(run: Run) -> int:
    """Play the run and tell it; 1 when it failed."""

    def play() -> str | None:
        error = replay(run)
        return None if error is None else str(error)

    return tell(run, play)


def tell(run: Run, play: Callable[[], str | None]) -> int:
    """Tell what happened while it was played; 1 when something broke. The run must have been made with `story`."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    setting = run.setting
    place = "agents apart" if setting.apart else "in one process"
    free = ", ".join(sorted(rung.name.lower() for rung in setting.effect_free)) or "none"
    console.print(f"seed {run.seed}: {place}, hosts {', '.join(setting.hosts)}, rungs without effect: {free}")
    error = _play_and_look(run, play)
    for at, who, what in run.story or ():
        if not what.startswith(_QUIET) or ":" in what.partition(" ")[0]:
            console.print(f"{at:9.3f}  {who:<12} {_short(what)}")
    console.print(f"{len(run.faults.points)} points, {len(run.faults.struck)} faults, {run.crashes} crashes")
    if error is None:
        console.print("nothing broke")
        return 0
    console.print(f"BROKEN at {run.loop.time():.3f} s: {_short(error)}")
    return 1


def _short(text: str) -> str:
    return _UUID.sub(r"\1", text)


def _play_and_look(run: Run, play: Callable[[], str | None]) -> str | None:
    """Play it, and end the story with the open records, before the database is closed."""
    close, run.close = run.close, lambda: None  # type: ignore[method-assign]
    error = play()
    for row in run.checker.rows(_OPEN):
        rung = Rung(row["rung"]).name.lower()
        run.tell(
            "record",
            f"attachment {row['id']} of {row['volume_id']} in {row['server_id']}: wants {row['goal']} "
            f"(by {row['goal_by']}), {rung}, in the hands of {row['hands']}, {row['reason']}, {row['last_error']}",
        )
    close()
    return error


_OPEN = """
    SELECT a.id, a.volume_id, a.server_id, a.goal, a.goal_by, a.reason, p.rung, p.hands, p.last_error
    FROM attachments a JOIN paths p ON p.attachment_id = a.id AND p.live = 1 WHERE a.live = 1
"""
