"""Who is next: the dispatches that wait in this process, and the slots for turns, shared fairly between organizations.

Two rules, both of the kind "the less is left, the less one may have":

- of the slots, an organization may hold three times as many as are free: alone three quarters of all, and when one floods, there
  are still free ones for whoever comes next;
- of the places to wait, an organization may hold as many as are free. What finds no place is dropped: it stays due in the log, and
  the sweep brings it again.

A slot that becomes free goes to the organization that holds the fewest, and among those to the one that has waited longest.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from uuid import UUID

from agent_svc.domain.log import Dispatch

_SHARE_OF_FREE_SLOTS = 3
# Organizations whose last turn is remembered.
_REMEMBERED = 10_000


class FairQueue:
    """Plain bookkeeping: `offer` what came, `take` what may run now, and say when it is `done`."""

    def __init__(self, slots: int, places: int) -> None:
        self._slots = slots
        self._places = places
        self._running: Counter[UUID] = Counter()
        self._waiting: dict[UUID, deque[Dispatch]] = {}
        # Who was served when, the longest ago first; those forgotten were served before all of them.
        self._served: OrderedDict[UUID, int] = OrderedDict()
        self._takes = 0
        self._known: set[UUID] = set()

    def room(self) -> int:
        """How many more dispatches may find a place or a slot."""
        return self._free_slots() + self._free_places()

    def offer(self, dispatch: Dispatch) -> bool:
        """Whether it is kept, or was there already."""
        if dispatch.conversation_id in self._known:
            return True
        queue = self._waiting.get(dispatch.organization_id)
        places = len(queue) if queue else 0
        if places >= self._free_places() and not (places == 0 and self._may_run(dispatch.organization_id)):
            return False
        self._waiting.setdefault(dispatch.organization_id, deque()).append(dispatch)
        self._known.add(dispatch.conversation_id)
        return True

    def take(self) -> Dispatch | None:
        """The next to run, which then holds a slot; None if nothing waits that may."""
        allowed = [organization for organization in self._waiting if self._may_run(organization)]
        if not allowed:
            return None
        chosen = min(allowed, key=lambda one: (self._running[one], self._served.get(one, 0)))
        queue = self._waiting[chosen]
        dispatch = queue.popleft()
        self._known.discard(dispatch.conversation_id)
        if not queue:
            del self._waiting[chosen]
        self._running[chosen] += 1
        self._note_served(chosen)
        return dispatch

    def done(self, dispatch: Dispatch) -> None:
        """It has given its slot back."""
        organization = dispatch.organization_id
        self._running[organization] -= 1
        if not self._running[organization]:
            del self._running[organization]

    def others_wait(self, organization: UUID) -> bool:
        """Whether something of another organization waits: then nobody keeps a slot for a second run."""
        return len(self._waiting) > (organization in self._waiting)

    def clear(self) -> list[Dispatch]:
        """Forgets what waits, and returns it."""
        waiting = [dispatch for queue in self._waiting.values() for dispatch in queue]
        self._waiting.clear()
        self._known.clear()
        return waiting

    def _note_served(self, organization: UUID) -> None:
        self._takes += 1
        self._served[organization] = self._takes
        self._served.move_to_end(organization)
        if len(self._served) > _REMEMBERED:
            self._served.popitem(last=False)

    def _may_run(self, organization: UUID) -> bool:
        return self._running[organization] < _SHARE_OF_FREE_SLOTS * self._free_slots()

    def _free_slots(self) -> int:
        return self._slots - self._running.total()

    def _free_places(self) -> int:
        return self._places - len(self._known)
