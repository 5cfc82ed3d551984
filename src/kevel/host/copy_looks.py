"""One look at one order to copy a plugged disk: begin it, see how far it is, or end it."""

from __future__ import annotations

from typing import Final

from kevel.domain.assignments import CopyAssignment, CopyReport, name_disk
from kevel.domain.copies import AT_REST, FAILED, TIMED_OUT, CopyState
from kevel.domain.errors import StepError, StepNever
from kevel.domain.model import Reason
from kevel.host.state import HostState
from kevel.hypervisor.base import CopySpec, CopyView, RootCopySpec
from kevel.runtime.reconciler import DONE, Again, Outcome, Retry

#: How often a copy under way is looked at, and its progress told.
COPY_LOOK_S: Final = 0.5
TOLD_EVERY_US: Final = 5_000_000

NOT_RUNNING: Final = "No running server has the volume plugged any more."


class CopyLooks:
    """Looks at copies for `kevel.runtime.reconciler`. Forgetting what it remembers costs time only."""

    def __init__(self, state: HostState) -> None:
        self._state = state
        #: When progress was last told, by copy (microseconds).
        self._told: dict[str, int] = {}
        #: How a copy has ended, until that has been heard. It is told again and never made again: the control plane
        #: may have heard it after all and be using the target by now. (A later life of the agent makes it again: its
        #: reports have another epoch, and nobody hears the earlier one's any more.)
        self._ended: dict[str, CopyReport] = {}

    async def look(self, copy_id: str) -> Outcome:
        """One look; see the port in `kevel.runtime.reconciler`."""
        copy = self._state.current_copy(copy_id)
        if copy is None:
            self._told.pop(copy_id, None)
            self._ended.pop(copy_id, None)
            return DONE
        ended = self._ended.get(copy_id)
        if ended is not None and ended.revision == copy.revision:
            await self._state.report_copy(ended, ended=True)
            return DONE
        try:
            if copy.state is CopyState.DROPPED:
                await self._end(copy)
                await self._report(copy, CopyState.DROPPED, None)
                return DONE
            return await self._step(copy)
        except StepError as error:
            return await self._fail(copy, error)

    async def _step(self, copy: CopyAssignment) -> Outcome:
        state = self._state
        if state.clock.now_us() > copy.deadline_at:
            await self._end(copy)
            await self._report(copy, CopyState.FAILED, None, self._reason(TIMED_OUT, "The copy took too long."))
            return DONE
        view = await state.effects.run(copy.server_id, self._copy(copy))
        if view is None:
            await self._report(copy, CopyState.FAILED, None, self._reason(AT_REST, NOT_RUNNING))
            return DONE
        if view.done:
            await self._report(copy, CopyState.DONE, view)
            return DONE
        now = state.clock.now_us()
        if now - self._told.get(copy.id, 0) >= TOLD_EVERY_US:
            await self._report(copy, CopyState.WANTED, view)
            self._told[copy.id] = now
        return Again(COPY_LOOK_S)

    async def _copy(self, copy: CopyAssignment) -> CopyView | None:
        hypervisor = self._state.hypervisor
        if copy.image_format is not None:
            root = RootCopySpec(copy_id=copy.id, target_path=copy.target_path, format=copy.image_format)
            return await hypervisor.copy_root(copy.server_id, root)
        if copy.attachment_id is None or copy.serial is None:
            raise AssertionError(f"copy {copy.id} names no disk")
        alias = name_disk(copy.attachment_id)
        spec = CopySpec(copy_id=copy.id, alias=alias, serial=copy.serial, target_path=copy.target_path)
        return await hypervisor.copy_disk(copy.server_id, spec)

    async def _end(self, copy: CopyAssignment) -> None:
        await self._state.effects.run(copy.server_id, self._state.hypervisor.end_copy(copy.server_id, copy.id))

    async def _fail(self, copy: CopyAssignment, error: StepError) -> Outcome:
        if copy.state is CopyState.DROPPED or not isinstance(error, StepNever):
            return Retry(error.message)
        try:
            await self._end(copy)  # what has begun of it would be in the way of the next copy of this disk
        except StepError as left:
            return Retry(left.message)
        await self._report(copy, CopyState.FAILED, None, self._reason(FAILED, error.message))
        return DONE

    def _reason(self, code: str, message: str) -> Reason:
        return Reason(code=code, message=message, at=self._state.clock.now_us())

    async def _report(
        self, copy: CopyAssignment, state: CopyState, view: CopyView | None, reason: Reason | None = None
    ) -> None:
        report = CopyReport(
            copy_id=copy.id,
            revision=copy.revision,
            state=state,
            done_bytes=0 if view is None else view.done_bytes,
            total_bytes=0 if view is None else view.total_bytes,
            reason=reason,
        )
        if state is not CopyState.WANTED:
            self._ended[copy.id] = report
        await self._state.report_copy(report, ended=state is not CopyState.WANTED)
