"""Answers to what the control plane asks besides the agent's work, for requests that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from kevel.domain.errors import StepError
from kevel.domain.questions import (
    Answer,
    ConsoleTail,
    Failed,
    MeasureHost,
    MeasureServer,
    Nothing,
    Question,
    ReadConsole,
    Sight,
)
from kevel.host.state import HostState

log = structlog.get_logger(__name__)

#: Looks of this kind at once. What is asked beyond is not answered: whoever asked hears that the host is busy.
ANSWERS_MAX: Final = 8
#: How much of a console is told.
CONSOLE_BYTES_MAX: Final = 100 << 10


class Answers:
    """Looks at what is asked for, and tells; it changes nothing and keeps nothing."""

    def __init__(self, state: HostState) -> None:
        self._state = state
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, questions: Iterable[Question]) -> None:
        """Answer these, each by itself."""
        for question in questions:
            task = asyncio.create_task(self._answer(question, busy=len(self._tasks) >= ANSWERS_MAX))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Answer nothing any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, question: Question, *, busy: bool) -> None:
        sight: Sight = Failed("The host answers too many other requests; repeat this one later.")
        try:
            if not busy:
                sight = await self._look(question)
        except StepError as error:
            sight = Failed(error.message)
        except Exception:
            log.exception("a question could not be answered", question=type(question.look).__name__)
            sight = Failed("The host could not look.")
        try:
            await self._state.control.answer(self._state.config.name, Answer(question_id=question.id, sight=sight))
        except Exception:
            log.warning("an answer was not delivered", host=self._state.config.name, exc_info=True)

    async def _look(self, question: Question) -> Sight:
        state, look = self._state, question.look
        match look:
            case ReadConsole(server_id=server_id):
                # Beside what is done to the server: a console is of most use while its server hangs.
                return ConsoleTail(await state.hypervisor.read_console(server_id, CONSOLE_BYTES_MAX))
            case MeasureServer(server_id=server_id):
                usage = await state.effects.run(server_id, state.hypervisor.measure_server(server_id))
                return Nothing() if usage is None else usage
            case MeasureHost():
                return await state.hypervisor.measure_host()
