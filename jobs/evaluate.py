"""Asks served models the questions of a chat file and counts right answers, side by side.

    python -m jobs.evaluate --data jobs/data/brindle_heldout.jsonl \\
        --model smol-oss-135m=http://127.0.0.1:8000/base/v1 --model brindle-support=http://127.0.0.1:8000/v1
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.chats.messages import request_fields
from tuneyard.core.command import run_command
from tuneyard.core.errors import ConfigError, DatasetError, EngineError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from tuneyard.chats.messages import ChatExample

CONCURRENCY = 8
DEFAULT_MAX_TOKENS = 1024
"""Reasoning included."""

EPILOG = """\
A row counts as right when the answer contains every string of its `metadata.must_contain` (case aside);
without that, when it equals the row's last assistant message. A call counts by its name and arguments. Answers are
greedy. The API key is OPENAI_API_KEY's, if it is set.
"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model behind a base URL."""

    model: str
    base_url: str

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """From `MODEL=BASE_URL`; raises ConfigError."""
        model, equals, url = text.partition("=")
        if not equals or not model or not url.startswith("http"):
            raise ConfigError(f"--model {text}: expected MODEL=BASE_URL, for example m=http://127.0.0.1:8000/v1")
        return cls(model, url)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered question. `well_formed`: ended by itself, in harmony's format."""

    question: str
    text: str
    contains: bool
    exact: bool
    well_formed: bool


@dataclass(frozen=True, slots=True)
class Score:
    """Shares, 0 to 1, over all rows."""

    model: str
    rows: int
    contains: float
    exact: float
    well_formed: float
    answers: tuple[Answer, ...]


def evaluate(endpoint: Endpoint, examples: Sequence[ChatExample], max_tokens: int = DEFAULT_MAX_TOKENS) -> Score:
    """The score of one served model. Raises EngineError when it does not answer."""
    answers = asyncio.run(_ask_all(endpoint, examples, max_tokens))
    rows = len(answers)
    return Score(
        model=endpoint.model,
        rows=rows,
        contains=sum(a.contains for a in answers) / rows,
        exact=sum(a.exact for a in answers) / rows,
        well_formed=sum(a.well_formed for a in answers) / rows,
        answers=tuple(answers),
    )


async def _ask_all(endpoint: Endpoint, examples: Sequence[ChatExample], max_tokens: int) -> list[Answer]:
    from openai import AsyncOpenAI
    from tqdm import tqdm

    gate = asyncio.Semaphore(CONCURRENCY)
    key = os.environ.get("OPENAI_API_KEY") or "none"
    async with AsyncOpenAI(base_url=endpoint.base_url, api_key=key, timeout=600, max_retries=2) as client:
        with tqdm(total=len(examples), desc=endpoint.model, unit="q", disable=not sys.stderr.isatty()) as bar:

            async def ask(example: ChatExample) -> Answer:
                async with gate:
                    answer = await _ask(client, endpoint, example, max_tokens)
                bar.update()
                return answer

            return list(await asyncio.gather(*(ask(example) for example in examples)))


async def _ask(client: AsyncOpenAI, endpoint: Endpoint, example: ChatExample, max_tokens: int) -> Answer:
    import openai

    asked: dict[str, Any] = request_fields(example.last_prompt, example.tools)
    try:
        completion = await client.chat.completions.create(
            model=endpoint.model, **asked, temperature=0, max_tokens=max_tokens
        )
    except openai.OpenAIError as e:
        raise EngineError(f"{endpoint.model} at {endpoint.base_url} does not answer: {e}") from e
    choice = completion.choices[0]
    text = _shown(choice.message.content, choice.message.tool_calls or ())
    expected = _shown(example.last_answer.content, example.last_answer.tool_calls)
    needed = example.metadata.get("must_contain") or [expected]
    return Answer(
        question=example.last_prompt[-1].content,
        text=text,
        contains=all(part.lower() in text.lower() for part in needed),
        exact=text.strip() == expected.strip(),
        well_formed=choice.finish_reason in ("stop", "tool_calls")
        and not (choice.model_extra or {}).get("harmony_malformed", False),
    )


def _shown(content: str | None, calls: Sequence[Any]) -> str:
    """An answer's text, then its calls, their arguments in one order."""
    return "\n".join(filter(None, [content, *(f"{c.function.name}({_ordered(c.function.arguments)})" for c in calls)]))


def _ordered(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True, ensure_ascii=False)
    except ValueError:
        return arguments


def score_table(scores: Sequence[Score]) -> str:
    """Scores as a text table."""
    width = max(len(score.model) for score in scores)
    lines = [f"{'model':{width}}  {'rows':>4}  contains the fact  exact answer  well-formed"]
    lines += [
        f"{s.model:{width}}  {s.rows:4}  {s.contains:17.0%}  {s.exact:12.0%}  {s.well_formed:11.0%}" for s in scores
    ]
    return "\n".join(lines)


def answers_table(scores: Sequence[Score], rows: int) -> str:
    """The first answers of each model under their question; right ones are ticked."""
    width = max(len(score.model) for score in scores)
    lines = []
    for index in range(min(rows, scores[0].rows)):
        lines.append(f"? {scores[0].answers[index].question}")
        for score in scores:
            answer = score.answers[index]
            text = " ".join(answer.text.split()) or "(nothing)"
            lines.append(f"    {score.model:{width}}  {'✓' if answer.contains else '✗'} {text[:100]}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.evaluate",
        description="Ask served models the questions of a chat file; count right answers, side by side.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="chat JSONL; the last assistant message is the answer")
    parser.add_argument("--model", action="append", required=True, metavar="MODEL=BASE_URL", help="repeatable")
    parser.add_argument("--limit", type=int, help="only so many rows, spread over the file")
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=DEFAULT_MAX_TOKENS,
        metavar="N",
        help="of an answer, reasoning included; one that is cut is not well-formed (default: %(default)s)",
    )
    parser.add_argument("--show", type=int, default=5, metavar="N", help="print N questions with all answers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write scores and answers there")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    endpoints = [Endpoint.parse(text) for text in arguments.model]
    examples = load_chat_dataset(arguments.data).examples
    if arguments.limit is not None and arguments.limit < 1:
        raise DatasetError(f"--limit {arguments.limit}: must be at least 1")
    if arguments.limit is not None and arguments.limit < len(examples):
        examples = [examples[i * len(examples) // arguments.limit] for i in range(arguments.limit)]
    if arguments.max_tokens < 1:
        raise ConfigError(f"--max-tokens {arguments.max_tokens}: must be at least 1")
    scores = [evaluate(endpoint, examples, arguments.max_tokens) for endpoint in endpoints]
    if arguments.show:
        print(answers_table(scores, arguments.show))
    print(score_table(scores), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(s) for s in scores], indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
