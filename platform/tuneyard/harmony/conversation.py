"""Chat messages as openai-harmony's messages: developer instructions, channels, calls and their results."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

import openai_harmony as oh

from tuneyard.chats.messages import ChatMessage, ChatTool
from tuneyard.harmony.settings import CodecSettings, ReasoningEffort


def system_message(
    settings: CodecSettings, reasoning_effort: ReasoningEffort | None, today: datetime.date | None
) -> oh.Message:
    """Harmony's system message.

    `reasoning_effort` None is the effort of the settings. `today` is the date of `conversation_date: today`; None is
    the clock's.
    """
    date = settings.conversation_date
    content = oh.SystemContent(
        model_identity=settings.model_identity,
        reasoning_effort=oh.ReasoningEffort((reasoning_effort or settings.reasoning_effort).capitalize()),
        knowledge_cutoff=settings.knowledge_cutoff,
        conversation_start_date=(today or datetime.date.today()).isoformat() if date == "today" else date,
        **({} if settings.channels_line else {"channel_config": None}),
    )
    return oh.Message.from_role_and_content(oh.Role.SYSTEM, content)


def developer_message(instructions: str, tools: Sequence[ChatTool]) -> oh.Message:
    """Harmony's developer message: the instructions, and the declarations of the tools."""
    content = oh.DeveloperContent.new()
    if instructions or not tools:
        content = content.with_instructions(instructions)
    if tools:
        content = content.with_function_tools(
            [
                oh.ToolDescription.new(t.function.name, t.function.description, parameters=t.function.parameters)
                for t in tools
            ]
        )
    return oh.Message.from_role_and_content(oh.Role.DEVELOPER, content)


def to_harmony(
    message: ChatMessage, tools: Sequence[ChatTool], called_function: str, *, with_reasoning: bool
) -> list[oh.Message]:
    """The harmony messages of one message of a chat.

    A system or developer message becomes a developer message that declares `tools`: harmony's own system message is
    reserved for the settings. `called_function` is the function whose result a tool message is, see called_functions.
    """
    match message.role:
        case "system" | "developer":
            return [developer_message(message.content, tools)]
        case "user":
            return [oh.Message.from_role_and_content(oh.Role.USER, message.content)]
        case "tool":
            author = oh.Author(role=oh.Role.TOOL, name=f"functions.{called_function}")
            result = oh.Message(author=author, content=[oh.TextContent(text=message.content)])
            return [result.with_channel("commentary").with_recipient("assistant")]
        case "assistant":
            return _assistant_messages(message, with_reasoning=with_reasoning)


def called_functions(messages: Sequence[ChatMessage]) -> Iterator[str]:
    """For each message the last function that was called before it, "unknown" if there was no call. Reads each message
    once.
    """
    called = "unknown"
    for message in messages:
        yield called
        if message.tool_calls:
            called = message.tool_calls[-1].function.name


def _assistant_messages(message: ChatMessage, *, with_reasoning: bool) -> list[oh.Message]:
    """The reasoning (analysis), then the answer (final). Before a call, the content is commentary instead."""
    texts = []
    if with_reasoning and message.reasoning_content:
        texts.append((message.reasoning_content, "analysis"))
    if message.content or not message.tool_calls:
        texts.append((message.content, "commentary" if message.tool_calls else "final"))
    harmony = [oh.Message.from_role_and_content(oh.Role.ASSISTANT, t).with_channel(channel) for t, channel in texts]
    for call in message.tool_calls:
        arguments = oh.Message.from_role_and_content(oh.Role.ASSISTANT, call.function.arguments)
        recipient = f"functions.{call.function.name}"
        harmony.append(
            arguments.with_channel("commentary").with_recipient(recipient).with_content_type("<|constrain|>json")
        )
    return harmony
