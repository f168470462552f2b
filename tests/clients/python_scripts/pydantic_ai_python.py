"""pydantic-ai: agents over chat completions and over responses."""

from __future__ import annotations

import asyncio
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
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


def create_model() -> Any:
    """A new one per event loop: its connections belong to the loop."""
    kind = OpenAIResponsesModel if USES_RESPONSES else OpenAIChatModel
    return kind(MODEL, provider=OpenAIProvider(base_url=BASE_URL, api_key=API_KEY))


def chat() -> list[str]:
    async def run() -> list[str]:
        agent = Agent(create_model(), system_prompt="Be brief.")
        first = await agent.run(SAY_HELLO)
        second = await agent.run(SAY_SUNNY, message_history=first.all_messages())
        return [first.output, second.output]

    return asyncio.run(run())


def stream() -> list[str]:
    async def run() -> list[str]:
        async with Agent(create_model()).run_stream(SAY_SUNNY) as result:
            return [piece async for piece in result.stream_text(delta=True, debounce_by=None)]

    return asyncio.run(run())


def tools() -> list[str]:
    async def run() -> list[str]:
        agent = Agent(create_model(), tools=[weather])
        whole = (await agent.run(CALL_WEATHER)).output
        async with agent.run_stream(CALL_WEATHER) as result:
            streamed = await result.get_output()
        return [whole, streamed]

    return asyncio.run(run())


def structured() -> list[dict[str, Any]]:
    async def run(output: Any) -> dict[str, Any]:
        return (await Agent(create_model(), output_type=output).run(FILL_IN)).output.model_dump()

    return [asyncio.run(run(output)) for output in (NativeOutput(Verdict), ToolOutput(Verdict))]


report(chat=chat, stream=stream, tools=tools, structured=structured)
