"""The removal of deleted organizations' data: who has some, and when it may begin."""

from datetime import datetime, timedelta

OWN = "user_svc"
OTHERS = ("agent_svc", "memory_svc", "tool_svc")
# Every service that keeps data of organizations. user_svc's own goes last: until then one can ask whose the rest was.
HOLDERS = (*OTHERS, OWN)

# Until the last call, stream and run of an organization has ended everywhere, so that nothing is written behind the purge.
SETTLING = timedelta(seconds=10)


def purge_time(deleted: datetime, grace: timedelta) -> datetime:
    """From when on the data of an organization may go."""
    return deleted + max(grace, SETTLING)
