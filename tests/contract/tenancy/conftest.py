"""Two organizations on the shared stack, and the ways into it."""

from collections.abc import Iterator

import pytest

from deploy.local import Stack
from tests.contract.tenancy.rpcs import Doors
from tests.contract.tenancy.tenants import Registrar, Tenant
from tests.contract.tenancy.tokens import Forger
from tests.fakes.model_control import ThreadedModelServer


@pytest.fixture(scope="session")
def doors(stack: Stack) -> Iterator[Doors]:
    """Envoy and the services' own ports."""
    with Doors(stack) as opened:
        yield opened


@pytest.fixture(scope="session")
def registrar(stack: Stack, doors: Doors, model_server: ThreadedModelServer) -> Registrar:
    """Makes more organizations."""
    return Registrar(stack, doors, model_server)


@pytest.fixture(scope="module")
def first(registrar: Registrar) -> Tenant:
    """The organization that is asked about."""
    return registrar.tenant()


@pytest.fixture(scope="module")
def second(registrar: Registrar) -> Tenant:
    """The organization that asks."""
    return registrar.tenant()


@pytest.fixture(scope="session")
def forger(stack: Stack) -> Forger:
    """Makes tokens that must be refused."""
    return Forger(stack)
