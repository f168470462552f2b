"""HttpLimits: what one request to the API may hold and how long it may take to arrive."""

from __future__ import annotations

from pydantic import Field

from tuneyard.core.strict_model import StrictConfig


class HttpLimits(StrictConfig):
    """Limits of one request, checked on every route before the request costs anything. More is refused with status 400;
    a larger body with 413, a slower one with 408."""

    body_bytes: int = Field(default=4 * 2**20, ge=1024)
    """Bytes of a request's body."""

    body_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds in which a request's body must arrive."""

    json_values: int = Field(default=262_144, ge=1)
    """Values in a request's JSON, at most: numbers, strings, arrays and objects."""

    json_containers: int = Field(default=65_536, ge=1)
    """Arrays and objects in a request's JSON, at most. They take the most time and memory to decode."""

    json_depth: int = Field(default=128, ge=1)
    """Arrays and objects that may be nested in each other in a request's JSON, the request included."""

    messages: int = Field(default=2048, ge=1)
    """Messages of a chat, or items of a response's input. 2,048 is OpenAI's limit for chats."""

    message_characters: int = Field(default=1_048_576, ge=1)
    """Characters of one message, its calls and its reasoning included; and of any other text, such as a prompt.
    1,048,576 is OpenAI's limit for one content."""

    characters: int = Field(default=4_194_304, ge=1)
    """Characters of all texts of a request together."""

    run_characters: int = Field(default=16_384, ge=1)
    """Letters, punctuation marks or spaces without a break. A tokenizer does not split such a run, and the time to
    encode it grows with the square of its length. Must be below this number."""

    long_runs: int = Field(default=16, ge=1)
    """Runs of `run_characters` in one request, or as many shorter ones as take the same time."""

    tools: int = Field(default=128, ge=1, le=128)
    """Functions that a request may declare."""

    schema_bytes: int = Field(default=131_072, ge=64)
    """Bytes of one JSON schema: of a tool's parameters, or of an answer."""

    schema_depth: int = Field(default=64, ge=1)
    """Arrays and objects that may be nested in each other in a JSON schema."""

    choices: int = Field(default=16, ge=1, le=16)
    """Answers to one prompt (`n`)."""

    prompts: int = Field(default=64, ge=1)
    """Prompts of one completion request, times `n`."""

    stop_strings: int = Field(default=4, ge=1, le=4)
    """Strings that may end an answer (`stop`)."""

    stop_characters: int = Field(default=256, ge=1)
    """Characters of one such string."""

    logit_bias_entries: int = Field(default=300, ge=1)
    """Tokens in `logit_bias`. Each costs time for every token of the answer."""

    token_ids: int = Field(default=131_072, ge=1)
    """Token ids in a prompt, or to detokenize."""
