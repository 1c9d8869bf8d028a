"""Which language models there are."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hearth.agent.v1.model_pb2 import Model
from hearth.agent.v1.model_service_pb2 import ListModelsRequest
from hearth.agent.v1.model_service_pb2_grpc import ModelServiceStub
from hearth_client._blocking import BlockingFace, call
from hearth_client._connection import Connection

if TYPE_CHECKING:
    from hearth.agent.v1.model_service_pb2_grpc import ModelServiceAsyncStub


class Models:
    """`client.models`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> ModelServiceAsyncStub:
        return ModelServiceStub(self._connection.channel)

    async def list(self) -> Sequence[Model]:
        """By name, those included that cannot be used now (`unusable_reason` says why)."""
        return (await self._connection.call(self._stub.ListModels, ListModelsRequest())).models


class BlockingModels(BlockingFace[Models]):
    """`client.models`, blocking."""

    list = call(Models.list)
