"""The rehearsal's few chats are the shortest of the data, with every message, call and tool as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobs.rehearsal.small_data import chat_row, copy_short_chats
from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.chats.messages import ChatExample, ChatMessage, ChatTool, FunctionCall, ToolCall, ToolFunction
from tuneyard.chats.row_settings import RowSettings

DATA = Path("jobs/data/brindle_train.jsonl")


def test_the_shortest_chats_are_copied_in_their_order(tmp_path: Path) -> None:
    target = tmp_path / "few.jsonl"
    assert copy_short_chats(str(DATA), RowSettings(), frozenset(), 7, target) == 7
    every, few = load_chat_dataset(DATA).examples, load_chat_dataset(target).examples
    sizes = [len(json.dumps(chat_row(chat), ensure_ascii=False)) for chat in every]
    assert sorted(len(json.dumps(chat_row(chat), ensure_ascii=False)) for chat in few) == sorted(sizes)[:7]
    places = [[chat.messages for chat in every].index(chat.messages) for chat in few]
    assert places == sorted(places)


def test_rows_that_the_run_leaves_out_are_not_copied(tmp_path: Path) -> None:
    rows = [[{"role": "user", "content": "q" * n}, {"role": "assistant", "content": "a"}] for n in (1, 2, 3)]
    source, target = tmp_path / "rows.jsonl", tmp_path / "few.jsonl"
    source.write_text("\n".join(json.dumps({"messages": messages}) for messages in rows))
    assert copy_short_chats(str(source), RowSettings(), frozenset({0}), 1, target) == 1
    assert load_chat_dataset(target).examples[0].messages[0].content == "qq"


words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs", "So")), min_size=1, max_size=30).filter(
    lambda text: bool(text.strip()) and "<" not in text
)
calls = st.builds(
    lambda number, name, text: ToolCall(
        id=f"call_{number}", function=FunctionCall(name=name, arguments=json.dumps({"x": text}, ensure_ascii=False))
    ),
    st.integers(0, 99),
    st.sampled_from(["look_up", "send"]),
    words,
)


@st.composite
def chats(draw: st.DrawFn) -> ChatExample:
    messages = [ChatMessage(role="system", content=draw(words))] if draw(st.booleans()) else []
    messages.append(ChatMessage(role="user", content=draw(words)))
    called = False
    if draw(st.booleans()):
        call, called = draw(calls), True
        messages.append(ChatMessage(role="assistant", tool_calls=(call,), reasoning_content=draw(st.none() | words)))
        messages.append(ChatMessage(role="tool", content=draw(words), tool_call_id=call.id))
    weight: Any = draw(st.sampled_from([None, 1]))
    messages.append(ChatMessage(role="assistant", content=draw(words), weight=weight))
    schema = {"type": "object", "properties": {"x": {"type": "string"}}}
    tools = [ChatTool(function=ToolFunction(name=name, parameters=schema)) for name in ("look_up", "send")]
    return ChatExample(messages=tuple(messages), tools=tuple(tools) if called else ())


@given(chats())
def test_a_copied_chat_is_read_as_it_was(tmp_path_factory: Any, chat: ChatExample) -> None:
    file = tmp_path_factory.mktemp("chat") / "chat.jsonl"
    file.write_text(json.dumps(chat_row(chat), ensure_ascii=False) + "\n", encoding="utf-8")
    (read,) = load_chat_dataset(file).examples
    assert (read.messages, read.tools) == (chat.messages, chat.tools)


@given(chats(), words)
def test_a_copied_pair_is_read_as_it_was(tmp_path_factory: Any, chat: ChatExample, other: str) -> None:
    before = [m.model_copy(update={"weight": 0}) if m.role == "assistant" else m for m in chat.messages[:-1]]
    answer = chat.messages[-1].model_copy(update={"content": f"{other}!"})
    pair = chat.model_copy(
        update={"messages": (*before, answer), "rejected": ChatMessage(role="assistant", content=f"{other}?")}
    )
    file = tmp_path_factory.mktemp("pair") / "pair.jsonl"
    file.write_text(json.dumps(chat_row(pair), ensure_ascii=False) + "\n", encoding="utf-8")
    (read,) = load_chat_dataset(file, RowSettings(preference="pairs")).examples
    assert (read.messages, read.tools, read.rejected) == (pair.messages, pair.tools, pair.rejected)
