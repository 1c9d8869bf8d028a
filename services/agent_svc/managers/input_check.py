"""What comes with a message beside its text, checked before the run is accepted: clear errors at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from agent_svc.domain import output_schema
from agent_svc.domain.image import BadImage, Image, check_together, image_from_bytes, image_from_url
from agent_svc.domain.model import ModelError
from agent_svc.domain.output_schema import BadSchema
from agent_svc.domain.run_input import NO_EXTRAS, ImageDraft, RunExtras
from agent_svc.interfaces.model_provider import ModelCatalog
from agent_svc.interfaces.unit_of_work import UnitOfWork
from chassis.errors import FailedPrecondition, invalid_field
from chassis.identity import Identity


class InputCheck:
    """Looks at images and schemas. A message of text alone costs nothing here."""

    def __init__(self, work: UnitOfWork, models: ModelCatalog) -> None:
        self._work = work
        self._models = models

    async def accept(
        self, caller: Identity, conversation_id: UUID, images: Sequence[ImageDraft], schema: str
    ) -> RunExtras:
        """Raises InvalidArgument naming the field, FailedPrecondition MODEL_TAKES_NO_IMAGES."""
        if not images and not schema:
            return NO_EXTRAS
        if schema:
            try:
                await asyncio.to_thread(output_schema.check, schema)
            except BadSchema as bad:
                raise invalid_field("output_schema", str(bad)) from None
        accepted = tuple(_image(number, draft) for number, draft in enumerate(images))
        try:
            check_together(accepted)
        except BadImage as bad:
            raise invalid_field("images", str(bad)) from None
        if accepted:
            await self._must_see(caller, conversation_id)
        return RunExtras(accepted, schema)

    async def _must_see(self, caller: Identity, conversation_id: UUID) -> None:
        """A conversation that does not exist, or a model that cannot be asked for now, is for StartRun and the run to report."""
        async with self._work.of(caller.organization_id) as transaction:
            conversation = await transaction.conversations.get(conversation_id)
            agent = await transaction.agents.get(conversation.agent_id) if conversation is not None else None
        if agent is None:
            return
        try:
            model = await self._models.resolve(agent.model)
        except ModelError:
            return
        if model.capabilities.images is False:
            raise FailedPrecondition(
                f"the model {model.name} takes no images",
                reason="MODEL_TAKES_NO_IMAGES",
                metadata={"model": model.name},
            )


def _image(number: int, draft: ImageDraft) -> Image:
    try:
        return image_from_url(draft.url) if draft.url else image_from_bytes(draft.data, draft.media_type)
    except BadImage as bad:
        raise invalid_field(f"images[{number}]", str(bad)) from None
