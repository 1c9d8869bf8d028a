"""Which model a run calls: the agent's own, or one of its fallbacks while that is down, over its quota or not usable."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from agent_svc.domain.agent import Agent
from agent_svc.domain.model import ModelError, ModelNotUsable
from agent_svc.interfaces.model_provider import ChosenModel, ModelCatalog
from agent_svc.managers.progress import Progress

_log = logging.getLogger(__name__)

# How long (seconds) a model that failed is passed over by the next runs that have another one.
_PASSED_OVER_S = 15.0
_LONGEST_PASSED_OVER_S = 300.0


@dataclass(frozen=True, slots=True)
class Beginning:
    """The model to begin with, the name under which the agent has it, and the names of those to try after it."""

    name: str
    model: ChosenModel
    fallbacks: list[str]


class ModelChoice:
    """Remembers, in this process, which models failed a moment ago."""

    def __init__(self, models: ModelCatalog) -> None:
        self._models = models
        self._until: dict[str, float] = {}

    async def begin(self, agent: Agent) -> Beginning:
        """The first usable one that has not failed a moment ago. Raises the first one's ModelError if none is usable."""
        names = list(dict.fromkeys((agent.model, *agent.settings.fallback_models)))
        now = time.monotonic()
        ready = [name for name in names if self._until.get(name, 0.0) <= now]
        first: ModelError | None = None
        waiting = [*ready, *(name for name in names if name not in ready)]
        while waiting:
            name = waiting.pop(0)
            try:
                return Beginning(name, await self._models.resolve(name), waiting)
            except ModelError as error:
                first = first or error
        raise first or ModelNotUsable("The agent has no model.")

    async def go_on(self, progress: Progress, error: ModelError) -> bool:
        """After the run's model failed with `error`: take the next one. False when there is none, or it would not help."""
        if not error.elsewhere:
            return False
        self._pass_over(progress.model_name, error)
        while progress.fallbacks:
            name = progress.fallbacks.pop(0)
            try:
                chosen = await self._models.resolve(name)
            except ModelError as unusable:
                _log.info("a fallback model cannot be used", extra={"model": name, "reason": str(unusable)})
                continue
            _log.warning(
                "a model failed, another goes on",
                extra={"model": progress.model.name, "next": chosen.name, "reason": str(error)},
            )
            progress.model, progress.model_name, progress.window_share = chosen, name, 1.0
            return True
        return False

    def _pass_over(self, name: str, error: ModelError) -> None:
        asked: float = getattr(error, "retry_after_s", None) or 0.0
        now = time.monotonic()
        self._until = {known: until for known, until in self._until.items() if until > now}
        self._until[name] = now + min(max(asked, _PASSED_OVER_S), _LONGEST_PASSED_OVER_S)
