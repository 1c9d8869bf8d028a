"""The tenancy matrix: for every RPC, requests about an organization's resources, and what another organization gets for them.

A row's requests are valid: the organization itself is served (`test_matrix.py` checks that too). `their` names the
organization that is asked about, `own` the one that asks; they are the same when an organization asks about itself.
"""

from collections.abc import Mapping

from tests.contract.tenancy.cases import Case
from tests.contract.tenancy.rows_agent import AGENT, AGENT_INTERNAL
from tests.contract.tenancy.rows_memory import MEMORY, MEMORY_INTERNAL
from tests.contract.tenancy.rows_tool import TOOL, TOOL_INTERNAL
from tests.contract.tenancy.rows_user import USER, USER_INTERNAL

_PACKAGES = {
    "hearth.agent.v1": AGENT,
    "hearth.agent.internal.v1": AGENT_INTERNAL,
    "hearth.memory.v1": MEMORY,
    "hearth.memory.internal.v1": MEMORY_INTERNAL,
    "hearth.tool.v1": TOOL,
    "hearth.tool.internal.v1": TOOL_INTERNAL,
    "hearth.user.v1": USER,
    "hearth.user.internal.v1": USER_INTERNAL,
}

# `package.Service/Method` → the cases of its row.
ROWS: Mapping[str, tuple[Case, ...]] = {
    f"{package}.{method}": cases for package, rows in _PACKAGES.items() for method, cases in rows.items()
}

# What these leave behind is seen by what asks, and what these take away is missed by it: so they come last, in this order.
_LAST = (
    *("Create", "Insert", "Import", "Index", "Upsert", "Attach"),
    *("Cancel", "Detach", "Revoke", "Delete", "Forget", "DeleteUser", "DeleteAgent", "DeleteOrganization"),
)


def in_order(names: list[str]) -> list[str]:
    """The RPCs with those last that change what others answer."""

    def rank(name: str) -> int:
        method = name.rpartition("/")[2]
        return max((place + 1 for place, start in enumerate(_LAST) if method.startswith(start)), default=0)

    return sorted(names, key=rank)
