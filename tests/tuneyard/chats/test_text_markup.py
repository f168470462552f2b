"""Reasoning and calls spelled as text become reasoning and calls on request; without it they are an error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tuneyard.chats.messages import ChatMessage
from tuneyard.chats.row_reader import ReadRow, parse_chat_row
from tuneyard.chats.row_settings import RowSettings

TOOLS = [{"type": "function", "function": {"name": "tide", "parameters": {"type": "object", "properties": {}}}}]


def read(answer: str, *, converts: bool = True, more: tuple[dict[str, Any], ...] = (), **fields: Any) -> ReadRow:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer, **fields}, *more]
    settings = RowSettings(text_markup="convert" if converts else "error")
    return parse_chat_row({"messages": messages, "tools": TOOLS}, "f:1", "openai", settings)


def answer_of(row: ReadRow) -> ChatMessage:
    assert row.example is not None, row.problems
    return row.example.messages[1]


@pytest.mark.parametrize(
    ("spelled", "reasoning", "content"),
    [
        ("<think>\nTwo and two.\n</think>\n\nFour.", "Two and two.", "Four."),
        ("<think>\n\n</think>\n\nSix.", None, "Six."),
        ("Two and two.\n</think>\n\nFour.", "Two and two.", "Four."),
        ("<thinking>Hm.</thinking>Four.", "Hm.", "Four."),
        ("[THINK]Hm.[/THINK]Four.", "Hm.", "Four."),
        (
            "<|begin_of_thought|>\nHm.\n<|end_of_thought|>\n\n<|begin_of_solution|>\nFour.\n<|end_of_solution|>",
            "Hm.",
            "Four.",
        ),
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Four.<|return|>",
            "Hm.",
            "Four.",
        ),
        ("<|channel|>final<|message|>Four.", None, "Four."),
    ],
)
def test_reasoning(spelled: str, reasoning: str | None, content: str) -> None:
    answer = answer_of(read(spelled))
    assert (answer.reasoning_content, answer.content) == (reasoning, content)
    refused = read(spelled, converts=False)
    assert [problem.kind for problem in refused.problems] == ["text_markup"]
    assert "data.text_markup=convert" in refused.problems[0].text
    assert "data.problems.text_markup=ignore" in refused.problems[0].text


@pytest.mark.parametrize(
    ("spelled", "content"),
    [
        ('<tool_call>\n{"name": "tide", "arguments": {"port": "Ayr"}}\n</tool_call>', ""),
        ("I look.\n<tool_call>{'arguments': {'port': 'Ayr'}, 'name': 'tide'}</tool_call>", "I look."),
        (
            '<|channel|>commentary to=functions.tide <|constrain|>json<|message|>{"port": "Ayr"}<|call|>',
            "",
        ),
        (' to=functions.tide<|channel|>commentary json<|message|>{"port": "Ayr"}<|call|>', ""),
    ],
)
def test_calls(spelled: str, content: str) -> None:
    answer = answer_of(read(spelled))
    assert [(call.function.name, call.function.arguments) for call in answer.tool_calls] == [
        ("tide", '{"port": "Ayr"}')
    ]
    assert answer.content == content


def test_several_calls_and_their_results_take_turns() -> None:
    calls = "".join(f'<tool_call>{{"name": "tide", "arguments": {{"port": "{port}"}}}}</tool_call>' for port in "AB")
    results = {"role": "tool", "content": "<tool_response>1</tool_response>\n<tool_response>2</tool_response>"}
    row = read(f"<think>Two.</think>{calls}", more=(results, {"role": "assistant", "content": "1 and 2."}))
    assert row.example is not None, row.problems
    assert [(m.role, m.content, m.reasoning_content, len(m.tool_calls)) for m in row.example.messages[1:]] == [
        ("assistant", "", "Two.", 1),
        ("tool", "1", None, 0),
        ("assistant", "", None, 1),
        ("tool", "2", None, 0),
        ("assistant", "1 and 2.", None, 0),
    ]


@pytest.mark.parametrize(
    ("spelled", "text"),
    [
        ("Well. <think>Hm.</think>Four.", "has text before <think>"),
        ("<think>Hm.", "'<think>' in a way that cannot be converted"),
        ("<tool_call>tide(Ayr)</tool_call>", "<tool_call> must hold `name` and `arguments`"),
        ('<tool_call>{"name": "tide", "args": {}}</tool_call>', "<tool_call> must hold `name` and `arguments`"),
        ("Four.<|channel|>final", "'<|channel|>' in a way that cannot be converted"),
        ("<functioncall> {}", "'<functioncall>' in a way that cannot be converted"),
    ],
)
def test_markup_that_cannot_be_converted_is_named(spelled: str, text: str) -> None:
    row = read(spelled)
    assert row.example is None
    assert row.problems[0].kind == "text_markup"
    assert text in row.problems[0].text


def test_reasoning_that_is_given_twice_must_be_the_same() -> None:
    assert answer_of(read("<think>Hm.</think>a", reasoning_content="Hm.")).reasoning_content == "Hm."
    assert read("<think>Hm.</think>a", reasoning_content="Other.").problems[0].kind == "given_twice"


@pytest.mark.parametrize("listed", [json.dumps(TOOLS), "\n".join(json.dumps(tool) for tool in TOOLS)])
def test_tools_that_a_system_message_lists_are_declared(listed: str) -> None:
    tags = "Signatures are within <tools></tools> tags. Call with <tool_call></tool_call>."
    system = f"{tags}\n<tools>\n{listed}\n</tools>\n"
    call = '<tool_call>{"name": "tide", "arguments": {}}</tool_call>'
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": call}], "system": system}
    read = parse_chat_row(row, "f:1", "openai", RowSettings(text_markup="convert"))
    assert read.example is not None, read.problems
    assert [tool.function.name for tool in read.example.tools] == ["tide"]
    assert [message.role for message in read.example.messages] == ["user", "assistant"]
    assert [problem.kind for problem in read.problems] == ["replaced_text"]


def test_markup_of_a_user_stays_text() -> None:
    row = parse_chat_row(
        {"prompt": "What is <think>?", "completion": "A tag."}, "f:1", "prompt_completion", RowSettings()
    )
    assert row.problems == ()
    assert row.example is not None
    assert row.example.messages[0].content == "What is <think>?"
