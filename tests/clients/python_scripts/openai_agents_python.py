"""OpenAI Agents SDK for Python, over responses (its default) and over chat completions."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
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
from agents import Agent, RunConfig, Runner, function_tool
from agents.models.openai_provider import OpenAIProvider


def config() -> RunConfig:
    """A new one per event loop, with connections of its own: the SDK shares its HTTP client."""
    client = openai.AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0)
    provider = OpenAIProvider(openai_client=client, use_responses=USES_RESPONSES)
    return RunConfig(model=MODEL, model_provider=provider, tracing_disabled=True)


def chat() -> list[str]:
    async def run() -> list[str]:
        agent, settings = Agent(name="Guide", instructions="Be brief."), config()
        first = await Runner.run(agent, SAY_HELLO, run_config=settings)
        history: Any = [*first.to_input_list(), {"role": "user", "content": SAY_SUNNY}]
        second = await Runner.run(agent, history, run_config=settings)
        return [first.final_output, second.final_output]

    return asyncio.run(run())


def stream() -> list[str]:
    async def run() -> list[str]:
        result = Runner.run_streamed(Agent(name="Guide"), SAY_SUNNY, run_config=config())
        return [
            event.data.delta
            async for event in result.stream_events()
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        ]

    return asyncio.run(run())


def tools() -> list[str]:
    async def run() -> list[str]:
        agent, settings = Agent(name="Guide", tools=[function_tool(weather)]), config()
        whole = await Runner.run(agent, CALL_WEATHER, run_config=settings)
        streamed = Runner.run_streamed(agent, CALL_WEATHER, run_config=settings)
        async for _ in streamed.stream_events():
            pass
        other = Agent(name="Desk", handoffs=[agent])
        steps = f"Call transfer_to_guide with {{}}. {CALL_WEATHER}"
        handed_off = await Runner.run(other, steps, run_config=settings)
        return [whole.final_output, streamed.final_output, handed_off.final_output]

    return asyncio.run(run())


def structured() -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        result = await Runner.run(Agent(name="Guide", output_type=Verdict), FILL_IN, run_config=config())
        return [result.final_output.model_dump()]

    return asyncio.run(run())


report(chat=chat, stream=stream, tools=tools, structured=structured)
