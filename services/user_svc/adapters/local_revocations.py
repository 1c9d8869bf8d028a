"""user_svc's own revocations, as it checks tokens by them: it reads its table instead of calling itself."""

import logging
from collections.abc import Sequence

from chassis.errors import DomainError
from chassis.revocations import ALL, Revocation, RevocationList
from user_svc.managers.revocation_manager import RevocationManager

_log = logging.getLogger(__name__)

# What another replica recorded is known here after this long.
_POLL_S = 1.0


class LocalRevocations:
    """A chassis RevocationSource over the table."""

    def __init__(self, manager: RevocationManager) -> None:
        self._manager = manager

    async def after(self, position: int) -> tuple[Sequence[Revocation], int]:
        found = await self._manager.after(position)
        revocations = [
            Revocation(
                one.subject,
                ALL if one.void_before is None else one.void_before.timestamp(),
                one.expire_time.timestamp(),
            )
            for one in found
        ]
        return revocations, found[-1].position if found else position


def local_list(manager: RevocationManager) -> RevocationList:
    """The list that user_svc itself checks tokens by."""
    return RevocationList(LocalRevocations(manager), interval_s=_POLL_S)


class NoticeToList:
    """A RevocationNotice to the list of this process."""

    def __init__(self, revocations: RevocationList) -> None:
        self._revocations = revocations

    async def recorded(self) -> None:
        try:
            await self._revocations.refresh()
        except DomainError as error:
            _log.warning("a revocation is known here a moment later", extra={"reason": error.reason})
