"""Storage in PostgreSQL, the truth about memory."""

from memory_svc.repositories.agents import SqlAgentMemorySummaries
from memory_svc.repositories.candidates import SqlCandidates
from memory_svc.repositories.unit_of_work import SqlUnitOfWork

__all__ = ["SqlAgentMemorySummaries", "SqlCandidates", "SqlUnitOfWork"]
