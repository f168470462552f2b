"""LangChain for Python: ChatOpenAI over chat completions and over responses."""

from __future__ import annotations

from typing import Any

from abilities import (
    API_KEY,
    BASE_URL,
    CALL_WEATHER,
    FILL_IN,
    MODEL,
    SAY_HELLO,
    SAY_SUNNY,
    USES_RESPONSES,
    Verdict,
    report,
    weather,
)
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

model = ChatOpenAI(
    model=MODEL, base_url=BASE_URL, api_key=API_KEY, max_retries=0, use_responses_api=USES_RESPONSES, stream_usage=True
)
weather_tool = tool(weather)


def chat() -> list[str]:
    first = model.invoke(SAY_HELLO)
    second = model.invoke([("user", SAY_HELLO), first, ("user", SAY_SUNNY)])
    return [first.text, second.text]


def stream() -> list[str]:
    return [chunk.text for chunk in model.stream(SAY_SUNNY) if chunk.text]


def tools() -> list[str]:
    answers = []
    for strict in (None, True):
        bound = model.bind_tools([weather_tool], strict=strict)
        whole = bound.invoke(CALL_WEATHER)
        chunks = list(bound.stream(CALL_WEATHER))
        streamed = chunks[0]
        for chunk in chunks[1:]:
            streamed += chunk
        for reply in (whole, streamed):
            (call,) = reply.tool_calls
            answers.append(bound.invoke([("user", CALL_WEATHER), reply, weather_tool.invoke(call)]).text)
    return answers


def structured() -> list[dict[str, Any]]:
    methods: tuple[Any, ...] = ("json_schema", "function_calling", "json_mode")
    return [model.with_structured_output(Verdict, method=method).invoke(FILL_IN).model_dump() for method in methods]


report(chat=chat, stream=stream, tools=tools, structured=structured)
