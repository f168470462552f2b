"""TokenizationService: text or chats to token ids, and back."""

from __future__ import annotations

from serve_apps.engine_wrappers.token_charge import current_charge
from serve_apps.generation.prompt import decode_tokens, encode_text, render_prompt
from serve_apps.generation.served_model import ServedModel
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.wire.tokenization import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest


class TokenizationService:
    """POST /tokenize and /detokenize for one model."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    async def tokenize(self, request: TokenizeRequest) -> Tokenized:
        """The ids of a text, or of a chat rendered as a prompt; they are charged.

        Raises RequestError for text that is too long.
        """
        self._model.check_name(request.model)
        if request.messages is not None:
            ids = await render_prompt(self._model, request.messages, request.tools, request.reasoning_effort)
        else:
            ids = await encode_text(self._model, request.prompt or "")
        current_charge()(UsageCounts(prompt_tokens=len(ids)))
        return Tokenized(tokens=ids, count=len(ids), max_model_len=self._model.max_model_len)

    async def detokenize(self, request: DetokenizeRequest) -> Detokenized:
        """The text of token ids, which are charged, with special tokens spelled out.

        Raises RequestError for an unknown id.
        """
        self._model.check_name(request.model)
        text = await decode_tokens(self._model, request.tokens, "tokens")
        current_charge()(UsageCounts(prompt_tokens=len(request.tokens)))
        return Detokenized(prompt=text)
