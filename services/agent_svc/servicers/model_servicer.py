"""ModelService on the wire."""

from __future__ import annotations

from typing import Any

from agent_svc.interfaces.model_provider import ModelCatalog
from agent_svc.servicers.mapping import model_to_proto
from hearth.agent.v1 import model_service_pb2 as pb
from hearth.agent.v1.model_service_pb2_grpc import ModelServiceServicer


class ModelServicer(ModelServiceServicer):
    """The catalog as it is: there is no rule between it and the caller."""

    def __init__(self, models: ModelCatalog) -> None:
        self._models = models

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        models = sorted(await self._models.list_models(), key=lambda model: model.name)
        return pb.ListModelsResponse(models=[model_to_proto(model) for model in models])
