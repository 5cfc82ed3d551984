"""The story of a run, as a person reads it: who did what, what went wrong, and what the records say at the end."""

from __future__ import annotations

import re

from rich.console import Console

from kevel.domain.ladder import Rung
from tests.simulation.run import Run, replay

_UUID = re.compile(r"([0-9a-f]{8})-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_QUIET = ("observe_server", "observe_all")


def print_story(run: Run) -> int:
    """Play the run and tell it; 1 when it failed."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    setting = run.setting
    place = "agents apart" if setting.apart else "in one process"
    free = ", ".join(sorted(rung.name.lower() for rung in setting.effect_free)) or "none"
    console.print(f"seed {run.seed}: {place}, hosts {', '.join(setting.hosts)}, rungs without effect: {free}")
    error = _play(run)
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


def _play(run: Run) -> str | None:
    """Play it; the records of what is not closed end the story."""
    error = replay_and_keep(run)
    return None if error is None else str(error)


def replay_and_keep(run: Run) -> AssertionError | None:
    """Like `replay`, with the open records added to the story before the database is closed."""
    close, run.close = run.close, lambda: None  # type: ignore[method-assign]
    error = replay(run)
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
