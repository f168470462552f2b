"""The evals API in this process: the routes over ASGI, a reconciler that is stepped by hand, and models that reply to
their prompts by a function of the test."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import openai

from serve_apps.engines.engine import OPTIONS, GenerationRequest
from serve_apps.engines.scripted_engine import ScriptedEngine
from serve_apps.generation.served_model import ServedModel
from serve_apps.platform_app.evals.part import EvalsPart
from tests.harmony_text import encode_spelled_out
from tests.serve_apps.platform_app.platform_under_test import open_platform
from tests.serve_apps.platform_app.served_models import ServedModels
from tuneyard.api.api_keys import KeyStore
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.harmony.vocabulary import ModelVocabulary
from tuneyard.storage.sql.location import SqlLocation

STEP_S = 0.01
"""Seconds between two steps of the reconciler."""

Reply = Callable[[str], str]


class ReplyingEngine(ScriptedEngine):
    """Replies to each prompt, spelled out, with the text that `reply` gives for it."""

    def __init__(self, checkpoint: Path, reply: Reply, **options: Any) -> None:
        super().__init__([[0]], options=OPTIONS, max_model_len=8192, **options)
        self._checkpoint = checkpoint
        self._reply = reply
        self._vocabulary = ModelVocabulary(checkpoint)
        self.prompts: list[str] = []
        """All prompts, in order of arrival."""

    def choose_reply(self, request: GenerationRequest) -> Sequence[int]:
        prompt = self._spell_out(request.prompt_token_ids)
        self.prompts.append(prompt)
        return encode_spelled_out(self._checkpoint, f"<|channel|>final<|message|>{self._reply(prompt)}<|return|>")

    def _spell_out(self, ids: Sequence[int]) -> str:
        data = bytearray()
        for token in ids:
            name = self._vocabulary.special_name(token)
            data += name.encode() if name is not None else self._vocabulary.token_bytes(token)
        return data.decode()


class EvalServer:
    """One process of the application: API and reconciler. Several may share a folder, as several processes do."""

    def __init__(
        self,
        folder: Path,
        checkpoint: Path,
        replies: Mapping[str, Reply],
        *,
        location: SqlLocation | None = None,
        keys: KeyStore | None = None,
        token_interval_s: float = 0.0,
    ) -> None:
        codec = HarmonyCodec.from_checkpoint(checkpoint, CodecSettings())
        self.engines = {
            name: ReplyingEngine(checkpoint, reply, token_interval_s=token_interval_s)
            for name, reply in replies.items()
        }
        models = [ServedModel(engine, codec, name, "0123456789abcdef") for name, engine in self.engines.items()]
        self._open = contextlib.ExitStack()
        self._platform = self._open.enter_context(
            open_platform(
                location or SqlLocation(file=folder / "platform.db"), folder, directory=ServedModels(models), keys=keys
            )
        )
        self.database = self._platform.context.database
        self.part = next(part for part in self._platform.parts if isinstance(part, EvalsPart))

    def client(self, key: str = "") -> openai.AsyncOpenAI:
        """The unmodified SDK, as a client of this process."""
        return self._platform.sdk(key)

    async def work(self, is_done: Callable[[], bool] | None = None) -> None:
        """Steps the reconciler until no run has work left, or `is_done`."""
        while True:
            await self.part.reconcile(0.0)
            if is_done() if is_done is not None else not self.part._progress.active():
                return
            await asyncio.sleep(STEP_S)

    async def close(self) -> None:
        """Ends the process in order."""
        await self.part.close()
        self._open.close()


def last_user_text(prompt: str) -> str:
    """The text of the last message of the user in a prompt that is spelled out."""
    return re.findall(r"<\|start\|>user<\|message\|>(.*?)<\|end\|>", prompt, re.DOTALL)[-1]
