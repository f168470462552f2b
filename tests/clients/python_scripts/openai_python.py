"""openai-python: chat completions and responses."""

from __future__ import annotations

import json
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

client = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0)
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
CHAT_TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS, "strict": True}}
TOOL: Any = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def chat() -> list[str]:
    messages = [user(SAY_HELLO)]
    first = client.chat.completions.create(model=MODEL, messages=messages)
    messages += [first.choices[0].message, user(SAY_SUNNY)]
    second = client.chat.completions.create(model=MODEL, messages=messages)
    return [str(reply.choices[0].message.content) for reply in (first, second)]


def stream() -> list[str]:
    chunks = client.chat.completions.create(model=MODEL, messages=[user(SAY_SUNNY)], stream=True)
    return [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]


def tools() -> list[str]:
    messages = [user(CALL_WEATHER)]
    whole = client.chat.completions.create(model=MODEL, messages=messages, tools=[CHAT_TOOL]).choices[0].message
    with client.chat.completions.stream(model=MODEL, messages=messages, tools=[CHAT_TOOL]) as events:
        streamed = events.get_final_completion().choices[0].message
    answers = []
    for message in (whole, streamed):
        (call,) = message.tool_calls
        result = {"role": "tool", "tool_call_id": call.id, "content": weather(**json.loads(call.function.arguments))}
        reply = client.chat.completions.create(model=MODEL, messages=[*messages, message, result], tools=[CHAT_TOOL])
        answers.append(str(reply.choices[0].message.content))
    return answers


def structured() -> list[dict[str, Any]]:
    asked: Any = {"model": MODEL, "messages": [user(FILL_IN)]}
    message = client.chat.completions.parse(**asked, response_format=Verdict).choices[0].message
    again: Any = {"model": MODEL, "messages": [user(FILL_IN), message, user(FILL_IN)]}
    parsed = client.chat.completions.parse(**again, response_format=Verdict).choices[0].message.parsed
    with client.chat.completions.stream(**asked, response_format=Verdict) as events:
        streamed = events.get_final_completion().choices[0].message.parsed
    function = openai.pydantic_function_tool(Verdict)
    called = client.chat.completions.parse(**asked, tools=[function], tool_choice="required").choices[0].message
    return [verdict.model_dump() for verdict in (parsed, streamed, called.tool_calls[0].function.parsed_arguments)]


def responses_chat() -> list[str]:
    items = [user(SAY_HELLO)]
    first = client.responses.create(model=MODEL, input=items)
    items += [*first.output, user(SAY_SUNNY)]
    return [first.output_text, client.responses.create(model=MODEL, input=items).output_text]


def responses_stream() -> list[str]:
    events = client.responses.create(model=MODEL, input=SAY_SUNNY, stream=True)
    return [event.delta for event in events if event.type == "response.output_text.delta"]


def responses_tools() -> list[str]:
    items = [user(CALL_WEATHER)]
    whole = client.responses.create(model=MODEL, input=items, tools=[TOOL])
    with client.responses.stream(model=MODEL, input=items, tools=[TOOL]) as events:
        streamed = events.get_final_response()
    answers = []
    for response in (whole, streamed):
        (call,) = (item for item in response.output if item.type == "function_call")
        result = {
            "type": "function_call_output",
            "call_id": call.call_id,
            "output": weather(**json.loads(call.arguments)),
        }
        history = [*items, *response.output, result]
        answers.append(client.responses.create(model=MODEL, input=history, tools=[TOOL]).output_text)
    return answers


def responses_structured() -> list[dict[str, Any]]:
    first = client.responses.parse(model=MODEL, input=FILL_IN, text_format=Verdict)
    again: Any = [user(FILL_IN), *first.output, user(FILL_IN)]
    parsed = client.responses.parse(model=MODEL, input=again, text_format=Verdict).output_parsed
    with client.responses.stream(model=MODEL, input=FILL_IN, text_format=Verdict) as events:
        streamed = events.get_final_response().output_parsed
    return [verdict.model_dump() for verdict in (parsed, streamed)]


if USES_RESPONSES:
    report(chat=responses_chat, stream=responses_stream, tools=responses_tools, structured=responses_structured)
else:
    report(chat=chat, stream=stream, tools=tools, structured=structured)
