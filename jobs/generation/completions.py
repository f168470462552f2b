"""Completions: parsed from token ids into answer and reasoning, and written as text or JSONL."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.generation.prompts import Prompt
from tuneyard.harmony.codec import HarmonyCodec


def parse_completion(codec: HarmonyCodec, token_ids: list[int]) -> dict[str, Any]:
    """A completion as `content`, `reasoning_content` and `complete`.

    `complete` is True when the model ended the answer itself, False when it reached the token limit.
    """
    parser = codec.stream_parser()
    texts = {"content": "", "reasoning_content": ""}
    for delta in [*parser.feed(token_ids), *parser.finish()]:
        texts["content" if delta.channel == "final" else "reasoning_content"] += delta.text
    return {**texts, "complete": parser.complete}


def write_completions(prompts: Sequence[Prompt], completions: Sequence[dict[str, Any]], path: Path | None) -> None:
    """Writes one JSON object per line to `path`; without a path prints prompts and answers on standard output."""
    if path is None:
        for prompt, completion in zip(prompts, completions, strict=True):
            answer = completion["content"] or f"(no answer: {completion['reasoning_content']})"
            print(f"> {prompt.question}\n{answer}\n")
        return
    lines = [
        json.dumps({"prompt": prompt.question, **completion}, ensure_ascii=False)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"[generate] wrote {len(lines)} completions to {path}", file=sys.stderr)
