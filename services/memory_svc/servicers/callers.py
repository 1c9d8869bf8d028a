"""Who a call's author is, and ids that may be absent."""

import uuid

from chassis import ids
from chassis.identity import current


def author(agent_id: uuid.UUID | None = None) -> str:
    """Whom the history names: the agent that edits, else the person that a service acts for, else the caller."""
    if agent_id is not None:
        return ids.encode("agent", agent_id)
    identity = current()
    return identity.on_behalf_of or identity.subject


def optional_id(prefix: str, text: str) -> uuid.UUID | None:
    """The UUID of a wire id, None for the empty one. Raises NotFound for what is no such id."""
    return ids.decode(prefix, text) if text else None
