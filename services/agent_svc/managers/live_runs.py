"""The runs that this process is working on: what others may ask about them, and how they are stopped."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

from agent_svc.domain.delta import PartialMessage
from agent_svc.domain.frame import SnapshotFrame

_REMEMBERED_STOPS = 1_000


class LiveRuns:
    """Implements interfaces.event_bus.RunOwner."""

    def __init__(self) -> None:
        self._stoppers: dict[UUID, Callable[[], None]] = {}
        self._partials: dict[UUID, PartialMessage] = {}
        # A stop may come while the claim of its run is still on its way from the database.
        self._stopped: OrderedDict[UUID, None] = OrderedDict()

    def register(self, run_id: UUID, stop: Callable[[], None]) -> bool:
        """Announces a run; False if it has been stopped already, and must not begin."""
        if run_id in self._stopped:
            return False
        self._stoppers[run_id] = stop
        return True

    def unregister(self, run_id: UUID) -> None:
        """The run is not here any more."""
        self._stoppers.pop(run_id, None)
        self._partials.pop(run_id, None)

    def writing(self, partial: PartialMessage | None, run_id: UUID) -> None:
        """The message that the run is writing now; None when it is complete."""
        if partial is None:
            self._partials.pop(run_id, None)
        else:
            self._partials[run_id] = partial

    def snapshot(self, run_id: UUID) -> SnapshotFrame | None:
        partial = self._partials.get(run_id)
        return None if partial is None else partial.snapshot()

    def stop(self, run_id: UUID) -> None:
        self._stopped[run_id] = None
        if len(self._stopped) > _REMEMBERED_STOPS:
            self._stopped.popitem(last=False)
        stopper = self._stoppers.get(run_id)
        if stopper is not None:
            stopper()
