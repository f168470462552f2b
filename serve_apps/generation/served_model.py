"""ServedModel: the model that an API serves, with its name, its engine and its prompt format."""

from __future__ import annotations

import functools
import time

from serve_apps.engines.engine import EngineStats, InferenceEngine
from serve_apps.generation.prompt_encoder import PromptEncoder
from serve_apps.generation.prompt_preparation import PromptPreparation
from tuneyard.api.wire.model_list import ModelCard
from tuneyard.chats.messages import ChatMessage
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import ModelNotFoundError
from tuneyard.harmony.codec import HarmonyCodec


class ServedModel:
    """What every route needs to know about the model. `weights_digest` is the digest in the checkpoint's manifest."""

    def __init__(
        self,
        engine: InferenceEngine,
        codec: HarmonyCodec,
        model_id: str,
        weights_digest: str,
        limits: HttpLimits | None = None,
    ) -> None:
        self.engine = engine
        self.codec = codec
        self.model_id = model_id
        self.limits = limits or HttpLimits()
        self.created = int(time.time())
        """Unix time in seconds."""
        self.system_fingerprint = f"fp_{weights_digest[:8]}{codec.fingerprint[:8]}"
        """OpenAI's field: changes when the weights or the prompt format change."""

    @functools.cached_property
    def prompts(self) -> PromptPreparation:
        """Makes prompts of requests. First used once the engine has started."""
        return PromptPreparation(self.create_encoder(), self.limits, self.max_model_len)

    def create_encoder(self) -> PromptEncoder:
        """Makes prompts of requests at once, in this process."""
        return PromptEncoder(self.codec, self.max_model_len, self.limits)

    def warm_up(self) -> None:
        """Does what would hold the event loop for 0.1 s in the first request. Call it once the engine runs."""
        self.create_encoder().render((ChatMessage(role="user", content="Hi"),))

    @property
    def max_model_len(self) -> int:
        """The context in tokens, prompt and answer together."""
        return self.engine.max_model_len

    def card(self) -> ModelCard:
        """The model's entry in GET /v1/models."""
        return ModelCard(id=self.model_id, created=self.created, max_model_len=self.max_model_len)

    def check_name(self, name: str) -> None:
        """Raises ModelNotFoundError if `name`, a request's `model`, is not the served model."""
        if name != self.model_id:
            raise ModelNotFoundError(
                f"The model {name!r} does not exist here. Served: {self.model_id}.",
                param="model",
                code="model_not_found",
            )

    async def check_health(self) -> EngineStats:
        """Returns the engine's load. Raises EngineError if the engine cannot answer."""
        await self.engine.check_health()
        return self.engine.stats()
