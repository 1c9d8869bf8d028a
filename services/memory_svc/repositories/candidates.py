"""What a search's last ordering reads of a hundred rows, in one round trip: every search does it."""

import uuid
from collections.abc import Collection
from typing import Any, LiteralString

from chassis.database import Database
from memory_svc.domain.search import Candidate, MemoryKind, Place, Scope

_PASSAGES: LiteralString = """
SELECT id, version, text, create_time FROM passages
WHERE organization_id = %(organization)s AND id = ANY(%(ids)s) AND delete_time IS NULL
    AND (expire_time IS NULL OR expire_time > now())
"""
_MESSAGES: LiteralString = """
SELECT id, 1 AS version, text, create_time, conversation_id, seq, speaker FROM messages
WHERE organization_id = %(organization)s AND id = ANY(%(ids)s) AND delete_time IS NULL
"""


class SqlCandidates:
    """A CandidateReader."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def candidates(self, scope: Scope, item_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Candidate]:
        values = {"organization": scope.organization_id, "ids": list(item_ids)}
        if scope.kind is MemoryKind.PASSAGE:
            rows = await self._database.read(scope.organization_id, _PASSAGES, values)
            return {row["id"]: Candidate(row["id"], row["version"], row["text"], row["create_time"]) for row in rows}
        rows = await self._database.read(scope.organization_id, _MESSAGES, values)
        return {row["id"]: _message(row) for row in rows}


def _message(row: dict[str, Any]) -> Candidate:
    place = Place(row["conversation_id"], row["seq"], row["speaker"])
    text = f"{place.speaker}: {row['text']}" if place.speaker else row["text"]
    return Candidate(row["id"], row["version"], text, row["create_time"], place)
