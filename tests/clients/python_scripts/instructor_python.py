"""instructor: structured answers only, whole and streamed, with its re-ask after an invalid one."""

from __future__ import annotations

from typing import Any

import instructor
import openai
import pydantic
from abilities import API_KEY, BASE_URL, FILL_IN, MODEL, USES_RESPONSES, Verdict, report

MODES = (
    (instructor.Mode.RESPONSES_TOOLS,)
    if USES_RESPONSES
    else (instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT, instructor.Mode.JSON_SCHEMA, instructor.Mode.JSON)
)


class WindyVerdict(Verdict):
    """A verdict that the model gets wrong at first."""

    @pydantic.field_validator("wind")
    @classmethod
    def is_windy(cls, wind: int) -> int:
        if wind < 5:
            raise ValueError("must be windy")
        return wind


def create_client(mode: instructor.Mode) -> Any:
    return instructor.from_openai(openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0), mode=mode)


def structured() -> list[dict[str, Any]]:
    messages = [{"role": "user", "content": FILL_IN}]
    verdicts = []
    for mode in MODES:
        client = create_client(mode)
        verdicts.append(client.chat.completions.create(model=MODEL, messages=messages, response_model=Verdict))
        asked_twice = [{"role": "user", "content": f'{FILL_IN} Fill in {{"sunny": true, "wind": 7}}.'}]
        windy = client.chat.completions.create(
            model=MODEL, messages=asked_twice, response_model=WindyVerdict, max_retries=2
        )
        assert windy.wind == 7, f"{mode}: {windy}"
    return [verdict.model_dump() for verdict in verdicts]


def stream() -> list[str]:
    messages = [{"role": "user", "content": FILL_IN}]
    partial = create_client(MODES[0]).chat.completions.create_partial(
        model=MODEL, messages=messages, response_model=Verdict
    )
    return [piece.model_dump_json() for piece in partial]


report(stream=stream, structured=structured)
