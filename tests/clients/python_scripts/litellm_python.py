"""LiteLLM: completion() and responses()."""

from __future__ import annotations

import json
from typing import Any

import litellm
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

SERVER: Any = {"model": f"openai/{MODEL}", "api_base": BASE_URL, "api_key": API_KEY}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT_TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
TOOL: Any = {"type": "function", "name": "weather", "parameters": PARAMETERS}


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def ask(messages: list[Any], **more: Any) -> Any:
    return litellm.completion(**SERVER, messages=messages, **more)


def chat() -> list[str]:
    first = ask([user(SAY_HELLO)]).choices[0].message
    return [first.content, ask([user(SAY_HELLO), first, user(SAY_SUNNY)]).choices[0].message.content]


def stream() -> list[str]:
    chunks = ask([user(SAY_SUNNY)], stream=True, stream_options={"include_usage": True})
    return [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]


def tools() -> list[str]:
    messages = [user(CALL_WEATHER)]
    whole = ask(messages, tools=[CHAT_TOOL])
    streamed = litellm.stream_chunk_builder(list(ask(messages, tools=[CHAT_TOOL], stream=True)))
    answers = []
    for reply in (whole, streamed):
        message = reply.choices[0].message
        (call,) = message.tool_calls
        result = weather(**json.loads(call.function.arguments))
        sent_back = {"role": "tool", "tool_call_id": call.id, "name": call.function.name, "content": result}
        answers.append(ask([*messages, message, sent_back], tools=[CHAT_TOOL]).choices[0].message.content)
    return answers


def structured() -> list[dict[str, Any]]:
    reply = ask([user(FILL_IN)], response_format=Verdict)
    return [json.loads(reply.choices[0].message.content)]


def respond(items: Any, **more: Any) -> Any:
    return litellm.responses(**SERVER, input=items, **more)


def text_of(response: Any) -> str:
    return "".join(part.text for item in response.output if item.type == "message" for part in item.content)


def responses_chat() -> list[str]:
    first = respond([user(SAY_HELLO)])
    history = [user(SAY_HELLO), *(item.model_dump() for item in first.output), user(SAY_SUNNY)]
    return [text_of(first), text_of(respond(history))]


def responses_stream() -> list[str]:
    events = respond(SAY_SUNNY, stream=True)
    return [event.delta for event in events if event.type == "response.output_text.delta"]


def responses_tools() -> list[str]:
    first = respond([user(CALL_WEATHER)], tools=[TOOL])
    (call,) = (item for item in first.output if item.type == "function_call")
    result = weather(**json.loads(call.arguments))
    sent_back = {"type": "function_call_output", "call_id": call.call_id, "output": result}
    history = [user(CALL_WEATHER), *(item.model_dump() for item in first.output), sent_back]
    return [text_of(respond(history, tools=[TOOL]))]


def responses_structured() -> list[dict[str, Any]]:
    return [json.loads(text_of(respond(FILL_IN, text_format=Verdict)))]


if USES_RESPONSES:
    report(chat=responses_chat, stream=responses_stream, tools=responses_tools, structured=responses_structured)
else:
    report(chat=chat, stream=stream, tools=tools, structured=structured)
