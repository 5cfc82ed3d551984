"""One look at one swap: fill the new volume, have the guest change over to it, or find that it has.

The way back is not here: a swap that is given up leaves a path that steps down, and that ends the filling first.
"""

from __future__ import annotations

from typing import Final

from kevel.domain.assignments import PathAssignment, SwapAssignment, SwapReport
from kevel.domain.errors import StepError, StepNever
from kevel.domain.ladder import Goal, Rung
from kevel.domain.model import Reason
from kevel.domain.swaps import AT_REST, FAILED, TIMED_OUT, SwapState
from kevel.host.disk_waits import volume_file
from kevel.host.state import HostState
from kevel.hypervisor.base import SwapSpec, SwapStage, SwapView
from kevel.runtime import failpoints
from kevel.runtime.reconciler import DONE, Again, Outcome, Retry

#: How often a swap under way is looked at, and its progress told.
SWAP_LOOK_S: Final = 0.3
TOLD_EVERY_US: Final = 1_000_000

NOT_RUNNING: Final = "The server's guest has stopped, or was started anew, before it could change over to the volume."


class SwapLooks:
    """Looks at swaps for `kevel.runtime.reconciler`. Forgetting what it remembers costs time only."""

    def __init__(self, state: HostState) -> None:
        self._state = state
        #: When progress was last told, by swap (microseconds).
        self._told: dict[str, int] = {}

    async def look(self, swap_id: str) -> Outcome:
        """One look; see the port in `kevel.runtime.reconciler`."""
        state = self._state
        if swap_id not in state.swaps:
            self._told.pop(swap_id, None)
            return DONE
        swap = state.current_swap(swap_id)
        old = None if swap is None else state.paths.get(swap.old_path_id)
        new = None if swap is None else state.paths.get(swap.new_path_id)
        if swap is None or old is None or new is None or not (_is_there(old) and _is_there(new)):
            return DONE  # looked at again whenever something about the host's paths changes
        try:
            spec = await self._spec(old, new)
            if swap.state is SwapState.PIVOTING:
                return await self._pivot(swap, spec)
            return await self._fill(swap, spec)
        except StepNever as error:
            return await self._give_up(swap, new, FAILED, error.message)
        except StepError as error:
            if state.clock.now_us() > swap.deadline_at:
                return await self._give_up(swap, new, TIMED_OUT, f"The swap took too long: {error.message}")
            return Retry(error.message)

    async def _fill(self, swap: SwapAssignment, spec: SwapSpec) -> Outcome:
        state = self._state
        now = state.clock.now_us()
        if now > swap.deadline_at:
            await self._report(swap, SwapState.FAILED, reason=self._reason(TIMED_OUT, "The swap took too long."))
            return DONE
        view = await self._step(swap, spec, pivot=False)
        if view is None:
            await self._report(swap, SwapState.FAILED, reason=self._reason(AT_REST, NOT_RUNNING))
            return DONE
        if view.stage is not SwapStage.COPYING:
            await self._report(swap, SwapState.PIVOTING, view)
            return DONE
        if now - self._told.get(swap.id, 0) >= TOLD_EVERY_US:
            await self._report(swap, SwapState.COPYING, view)
            self._told[swap.id] = now
        return Again(SWAP_LOOK_S)

    async def _pivot(self, swap: SwapAssignment, spec: SwapSpec) -> Outcome:
        view = await self._step(swap, spec, pivot=True)
        if view is None:
            await self._report(swap, SwapState.FAILED, reason=self._reason(AT_REST, NOT_RUNNING))
        elif view.stage is SwapStage.SWAPPED:
            await self._report(swap, SwapState.SWAPPED)
        else:
            return Again(SWAP_LOOK_S)
        return DONE

    async def _step(self, swap: SwapAssignment, spec: SwapSpec, *, pivot: bool) -> SwapView | None:
        self._state.check_lease()
        call = self._state.hypervisor.swap_disk(swap.server_id, spec, pivot=pivot)
        return await self._state.effects.run(swap.server_id, call)

    async def _give_up(self, swap: SwapAssignment, new: PathAssignment, code: str, message: str) -> Outcome:
        """It fails, unless the guest has the new volume all the same."""
        state = self._state
        try:
            file = await self._find_file(new)
            kept = await state.effects.run(swap.server_id, state.hypervisor.end_swap(swap.server_id, file))
        except StepError as error:
            return Retry(error.message)
        if not kept:
            return Retry(message)
        await self._report(swap, SwapState.FAILED, reason=self._reason(code, message))
        return DONE

    async def _spec(self, old: PathAssignment, new: PathAssignment) -> SwapSpec:
        return SwapSpec(
            alias=old.alias,
            serial=old.serial,
            old_path=await self._find_file(old),
            new_path=await self._find_file(new),
            new_format=new.volume_format,
        )

    async def _find_file(self, path: PathAssignment) -> str:
        """Where the volume is on this host, proved by what the back end says of it (S8)."""
        if path.connection_info is None:
            raise AssertionError(f"path {path.id} is exported without connection_info")
        connector = self._state.connectors[path.connection_info["driver_volume_type"]]
        with failpoints.around("connect_volume"):
            return (await connector.connect_volume(volume_file(path), path.connection_info)).path

    def _reason(self, code: str, message: str) -> Reason:
        return Reason(code=code, message=message, at=self._state.clock.now_us())

    async def _report(
        self, swap: SwapAssignment, state: SwapState, view: SwapView | None = None, *, reason: Reason | None = None
    ) -> None:
        report = SwapReport(
            swap_id=swap.id,
            revision=swap.revision,
            state=state,
            done_bytes=0 if view is None else view.done_bytes,
            total_bytes=0 if view is None else view.total_bytes,
            reason=reason,
        )
        await self._state.report_swap(report, moved=state is not SwapState.COPYING)


def _is_there(path: PathAssignment) -> bool:
    """Does the host reach the volume, and is the path to stay?"""
    return path.rung >= Rung.CONNECTED and path.goal is Goal.ATTACHED and path.server_wanted
