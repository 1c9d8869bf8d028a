"""The history checker: did what clients saw, and what the database holds, keep the promises about runs and streams?"""

from tests.reliability.checker.history import Accepted, History, Seen
from tests.reliability.checker.rules import Breach, check
from tests.reliability.checker.stored import read

__all__ = ["Accepted", "Breach", "History", "Seen", "check", "read"]
