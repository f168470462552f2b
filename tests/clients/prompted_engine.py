"""PromptedEngine: does what a user's message says, so that tests of any client know the answers.

A user's message holds steps; each answer since that message does the next one:

    Say "TEXT".             the answer TEXT
    Call NAME with {...}.   a call of the function NAME; "The function NAME is missing." where it may not be called
    Fill in {...}.          the JSON as the answer or, where the request only allows a call, as a function's arguments

After the last step it quotes the last tool result: `The tool says: …`. An answer that the request's grammar does not
accept fails the request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from serve_apps.engines.engine import OPTIONS, GenerationRequest
from serve_apps.engines.grammars.grammar_proof import compile_matcher, load_tokenizer
from serve_apps.engines.scripted_engine import ScriptedEngine
from tests.harmony_text import encode_spelled_out
from tuneyard.core.errors import EngineError
from tuneyard.harmony.codec import HarmonyCodec

THOUGHT = "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant"
_STEP = re.compile(r'Say "(?P<text>[^"]*)"|Call (?P<name>[\w.-]+) with (?=\{)|Fill in (?=\{)')
_CALLABLE = re.compile(r'"commentary to=functions\.([\w.-]+)"')
MAX_MODEL_LEN = 262_144
"""Tokens. Prompts of coding agents, with their tools, take tens of thousands with a small tokenizer."""


class PromptedEngine(ScriptedEngine):
    """A scripted engine whose replies follow from the prompt."""

    def __init__(self, codec: HarmonyCodec) -> None:
        super().__init__([[0]], max_model_len=MAX_MODEL_LEN, options=OPTIONS)
        self._codec = codec
        self._vocabulary_size = json.loads((codec.checkpoint / "config.json").read_text())["vocab_size"]
        self._tokenizer = load_tokenizer(codec.checkpoint, self._vocabulary_size)

    def choose_reply(self, request: GenerationRequest) -> Sequence[int]:
        prompt = self._codec.render_text(request.prompt_token_ids)
        replies = [
            encode_spelled_out(self._codec.checkpoint, text) for text in possible_replies(prompt, request.grammar)
        ]
        if request.grammar is None:
            return replies[0]
        matcher = compile_matcher(request.grammar, self._tokenizer, self._vocabulary_size)
        for reply in replies:
            if matcher.validate_tokens(reply) == len(reply):
                return reply
        raise EngineError(f"The grammar accepts no possible reply to: …{prompt[-2000:]}\n{request.grammar}")


def possible_replies(prompt: str, grammar: str | None) -> Iterator[str]:
    """What may be answered, in harmony's text, the preferred reply first."""
    request, answers = _last_request(prompt.split("<|start|>")[1:-1])
    functions = _CALLABLE.findall(grammar or "")
    steps = list(_STEP.finditer(request))
    results = [message for message in answers if message.startswith("functions.")]
    answered = sum(
        message.startswith("assistant") and ("to=functions." in message or "|>final" in message) for message in answers
    )
    # instructor asks again with a user's message, and may leave the wrong answer out.
    done = max(answered, sum(message.startswith("user") for message in answers))
    if done >= len(steps):
        yield _final(f"The tool says: {_content(results[-1])[-400:]}" if results else "Nothing to do.")
        return
    step = steps[done]
    if step["text"] is not None:
        yield _final(step["text"])
        return
    arguments = _json_at(request, step.end())
    if step["name"] is None:
        yield _final(arguments)
        yield from (_call(name, arguments) for name in functions)
    elif step["name"] in functions:
        yield _call(step["name"], arguments)
    else:
        yield _final(f"The function {step['name']} is missing.")


def _last_request(messages: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The content of the last user's message with steps, and the messages after it."""
    for index in reversed(range(len(messages))):
        if messages[index].startswith("user") and _STEP.search(messages[index]):
            return _content(messages[index]), messages[index + 1 :]
    return "", ()


def _content(message: str) -> str:
    """A message's content without harmony's header and end."""
    return re.sub(r"<\|(end|call|return)\|>$", "", message.partition("<|message|>")[2])


def _json_at(text: str, start: int) -> str:
    """The JSON value that begins there, as it is written."""
    decoded: tuple[Any, int] = json.JSONDecoder().raw_decode(text, start)
    return text[start : decoded[1]]


def _final(text: str) -> str:
    return f"{THOUGHT}<|channel|>final<|message|>{text}<|return|>"


def _call(name: str, arguments: str) -> str:
    return f"{THOUGHT}<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{arguments}<|call|>"
