"""Questions to agents on behalf of requests that wait for the answer.

They are kept in memory: whoever asked is gone when this process is, and a look leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from kevel.domain.errors import Unavailable
from kevel.domain.questions import Answer, Failed, Look, Question, Sight
from kevel.runtime.ports import Ids

#: Requests that may wait for one host at a time.
QUESTIONS_MAX: Final = 64


class Questions:
    """What has been asked of each host and is not answered yet. `wake` makes a host's poll return."""

    def __init__(self, ids: Ids, wake: Callable[[str], None], wait_s: float) -> None:
        self._ids = ids
        self._wake = wake
        #: What a request waits for an answer.
        self.wait_s = wait_s
        #: By host, those that its agent has not been told.
        self._untold: dict[str, dict[str, Question]] = {}
        #: By host and question.
        self._waiting: dict[str, dict[str, asyncio.Future[Sight]]] = {}

    async def ask(self, host: str, look: Look) -> Sight:
        """What the host's agent sees. Raises Unavailable when it does not answer in time, or cannot look."""
        waiting = self._waiting.setdefault(host, {})
        if len(waiting) >= QUESTIONS_MAX:
            raise Unavailable(f"Host {host} has {QUESTIONS_MAX} questions to answer already; repeat this one later.")
        question = Question(id=self._ids.uuid(), look=look)
        answer: asyncio.Future[Sight] = asyncio.get_running_loop().create_future()
        waiting[question.id] = answer
        self._untold.setdefault(host, {})[question.id] = question
        self._wake(host)
        try:
            async with asyncio.timeout(self.wait_s):
                sight = await answer
        except TimeoutError:
            raise Unavailable(f"Host {host} has not answered within {self.wait_s:g} s; repeat this later.") from None
        finally:
            waiting.pop(question.id, None)
            self._untold[host].pop(question.id, None)
        if isinstance(sight, Failed):
            raise Unavailable(sight.message)
        return sight

    def take(self, host: str) -> tuple[Question, ...]:
        """What the host's agent has not been told yet; it is told once."""
        untold = self._untold.get(host)
        if not untold:
            return ()
        found = tuple(untold.values())
        untold.clear()
        return found

    def hear(self, host: str, answer: Answer) -> None:
        """Take an answer; one that nobody waits for (any more), and one of another host's, is nothing."""
        waiting = self._waiting.get(host, {}).get(answer.question_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.sight)
