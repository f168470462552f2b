"""A checkpoint folder as lm_eval asks it, in transformers; chats are rendered and parsed by its codec."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from tqdm import tqdm

from jobs.evaluation.tasks.scores import Form
from jobs.training.model_loading import load_for_measuring
from tuneyard.chats.messages import ChatMessage
from tuneyard.checkpoints.manifest import read_manifest
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import ConfigError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

HFLM_LOGGER = "lm_eval.models.huggingface"


@contextlib.contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Hides a logger's warnings: lm_eval warns that options are ignored when it is given a loaded model."""
    level = logging.getLogger(logger).level
    logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.getLogger(logger).setLevel(level)


class CheckpointModel:
    """A checkpoint that is loaded when it is first asked."""

    def __init__(self, name: str, folder: Path, max_tokens: int) -> None:
        """Raises CheckpointError for a folder that is no finished checkpoint."""
        read_manifest(folder)
        self.name = name
        self._folder = folder
        self._max_tokens = max_tokens
        self._model: LoadedCheckpoint | None = None

    def open(self, form: Form, *, scores_texts: bool) -> Any:  # noqa: ARG002  # a checkpoint can always score texts
        """lm_eval's model object, the same for every form. Raises CheckpointError for weights that are not valid."""
        if self._model is None:
            self._model = LoadedCheckpoint(self._folder, self._max_tokens)
        self._model.asks_chats = form == "chat"
        return self._model


class LoadedCheckpoint(HFLM):
    """lm_eval's own model for transformers, but with chats in the checkpoint's form.

    lm_eval alone would render a chat with the tokenizer's template, and would take reasoning for the answer. Texts are
    scored one at a time, as their logits over GPT-OSS's vocabulary are large.
    """

    def __init__(self, folder: Path, max_tokens: int) -> None:
        manifest = validate_hf_checkpoint(folder)
        settings = manifest.codec.codec_settings() if manifest.codec else CodecSettings()
        self._codec = HarmonyCodec.from_checkpoint(folder, settings)
        self._max_tokens = max_tokens
        self.asks_chats = False
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        with _quiet(HFLM_LOGGER):
            super().__init__(pretrained=load_for_measuring(folder), tokenizer=tokenizer, backend="causal", batch_size=1)

    @property
    def max_gen_toks(self) -> int:
        """Tokens of an answer where the task says nothing."""
        return self._max_tokens

    @property
    def tokenizer_name(self) -> str:
        """Part of the name under which lm_eval could store requests; it is not asked to."""
        return ""

    def apply_chat_template(
        self,
        chat_history: list[dict[str, str]],
        add_generation_prompt: bool = True,  # noqa: ARG002  # lm_eval passes it by name; chats always end with a question
    ) -> str:
        """The messages as JSON, which generate_until renders."""
        return json.dumps(chat_history, ensure_ascii=False)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """The answers to chats, without reasoning; where texts are asked, lm_eval's continuations of them."""
        if not self.asks_chats:
            return list(super().generate_until(requests, disable_tqdm))
        bar = tqdm(requests, desc="chats", unit="chat", dynamic_ncols=True, disable=disable_tqdm or None)
        return [self._answer(*request.args) for request in bar]

    def _answer(self, messages: str, generation: dict[str, Any]) -> str:
        options = dict(normalize_gen_kwargs(generation, self._max_tokens))
        until, max_tokens = options.pop("until"), options.pop("max_gen_toks")
        if not options["do_sample"]:
            options.pop("temperature", None)
        prompt = self._codec.render([ChatMessage.model_validate(message) for message in json.loads(messages)])
        room = self.max_length - len(prompt)
        if room < 1:
            raise ConfigError(f"A chat has {len(prompt)} tokens, but the model's context is {self.max_length}.")
        ids = torch.tensor([prompt], device=self.device)
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=min(max_tokens, room),
                eos_token_id=list(self._codec.stop_token_ids),
                pad_token_id=self.tokenizer.pad_token_id,
                **options,
            )
        parser = self._codec.stream_parser()
        deltas = [*parser.feed(output[0, len(prompt) :].tolist()), *parser.finish()]
        content = "".join(delta.text for delta in deltas if delta.channel == "final")
        # Stop strings end the answer, not the reasoning before it, as in serving.
        answer: str = postprocess_generated_text(content, stop=until, think_end_token=None)
        return answer
