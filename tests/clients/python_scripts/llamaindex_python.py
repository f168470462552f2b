"""LlamaIndex: OpenAILike over chat completions, OpenAIResponses over responses."""

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
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAIResponses
from llama_index.llms.openai_like import OpenAILike

CONTEXT_WINDOW = 131_072
SERVER: Any = {"model": MODEL, "api_base": BASE_URL, "api_key": API_KEY, "max_retries": 0}


def create_model() -> Any:
    if USES_RESPONSES:
        return OpenAIResponses(**SERVER, context_window=CONTEXT_WINDOW)
    return OpenAILike(**SERVER, context_window=CONTEXT_WINDOW, is_chat_model=True, is_function_calling_model=True)


model = create_model()


def user(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)


def chat() -> list[str]:
    first = model.chat([user(SAY_HELLO)]).message
    second = model.chat([user(SAY_HELLO), first, user(SAY_SUNNY)]).message
    return [str(first.content), str(second.content)]


def stream() -> list[str]:
    return [chunk.delta for chunk in model.stream_chat([user(SAY_SUNNY)]) if chunk.delta]


def tools() -> list[str]:
    tool = FunctionTool.from_defaults(weather)

    async def run(streaming: bool) -> str:
        agent = FunctionAgent(tools=[tool], llm=create_model(), streaming=streaming)
        return str(await agent.run(CALL_WEATHER))

    return [asyncio.run(run(streaming)) for streaming in (False, True)]


def structured() -> list[dict[str, Any]]:
    return [model.structured_predict(Verdict, PromptTemplate("{ask}"), ask=FILL_IN).model_dump()]


report(chat=chat, stream=stream, tools=tools, structured=structured)
