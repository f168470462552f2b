"""The Jinja chat template renders the text of the prompts that HarmonyCodec renders."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from tests.chat_prompts import CALL, JINJA_PROMPTS, PLAIN, QUESTION
from tuneyard.chats.messages import ChatMessage, ChatTool, request_fields
from tuneyard.harmony.chat_template.template import chat_template
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings, ReasoningEffort

SETTINGS = CodecSettings(conversation_date="2026-01-31")


@pytest.fixture(scope="module")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, SETTINGS)


def rendered(
    settings: CodecSettings, messages: Sequence[ChatMessage], tools: Sequence[ChatTool] = (), **options: Any
) -> str:
    """The prompt as transformers renders it from the template."""
    fields = request_fields(messages, tools)
    texts, _ = render_jinja_template(
        [fields["messages"]],
        tools=fields.get("tools"),
        chat_template=chat_template(settings),
        add_generation_prompt=True,
        **options,
    )
    return str(texts[0])


@pytest.mark.parametrize("number", range(len(JINJA_PROMPTS)))
def test_frozen_prompts(codec: HarmonyCodec, number: int) -> None:
    messages, tools = JINJA_PROMPTS[number]
    assert rendered(SETTINGS, messages, tools) == codec.render_text(codec.render(messages, tools))


@pytest.mark.parametrize(
    "settings",
    [
        CodecSettings(),
        CodecSettings(reasoning_effort="low", channels_line=False),
        CodecSettings(model_identity=None, knowledge_cutoff=None),
        CodecSettings(model_identity=None, knowledge_cutoff=None, conversation_date="2026-02-03"),
        CodecSettings(model_identity='A "quoted"\nname \\n {{ x }} {%- é 🎉'),
    ],
)
def test_settings_of_the_system_message(codec: HarmonyCodec, settings: CodecSettings) -> None:
    other = HarmonyCodec(codec._vocabulary, settings)
    assert rendered(settings, [QUESTION], [PLAIN]) == codec.render_text(other.render([QUESTION], [PLAIN]))


def test_the_date_can_be_todays() -> None:
    settings = CodecSettings(conversation_date="today")
    before = datetime.date.today()
    text = rendered(settings, [QUESTION])
    days = {f"Current date: {day.isoformat()}" for day in (before, datetime.date.today())}
    assert any(day in text for day in days)


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
def test_a_request_sets_the_reasoning_effort(codec: HarmonyCodec, effort: ReasoningEffort) -> None:
    expected = codec.render_text(codec.render([QUESTION], reasoning_effort=effort))
    assert rendered(SETTINGS, [QUESTION], reasoning_effort=effort) == expected


def test_reasoning_may_be_named_thinking(codec: HarmonyCodec) -> None:
    """llama.cpp names it so."""
    fields = request_fields([QUESTION, CALL], [])["messages"]
    fields[1]["thinking"] = fields[1].pop("reasoning_content")
    texts, _ = render_jinja_template([fields], chat_template=chat_template(SETTINGS), add_generation_prompt=True)
    assert texts[0] == codec.render_text(codec.render([QUESTION, CALL]))


texts = st.text(alphabet="ab \n\"'<>{}%é", max_size=8)
messages = st.lists(
    st.one_of(
        st.builds(ChatMessage, role=st.sampled_from(["user", "system", "developer", "tool"]), content=texts),
        st.builds(
            lambda content, reasoning, names: ChatMessage.model_validate(
                {
                    "role": "assistant",
                    "content": content,
                    "reasoning_content": reasoning,
                    "tool_calls": [{"function": {"name": name, "arguments": '{"a": 1}'}} for name in names],
                }
            ),
            texts,
            st.none() | texts,
            st.lists(st.sampled_from(["f", "g"]), max_size=2),
        ),
    ),
    max_size=5,
)


# openai-harmony turns larger ones into floats.
whole_numbers = st.integers(-(2**63), 2**63 - 1)


def with_comments(schemas: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    comments = st.fixed_dictionaries(
        {},
        optional={
            "description": texts,
            "title": texts,
            "nullable": st.booleans(),
            "default": st.one_of(texts, st.none(), st.booleans(), whole_numbers, st.lists(whole_numbers, max_size=2)),
            "examples": st.lists(st.one_of(texts, st.integers()), max_size=2),
        },
    )
    return st.builds(lambda schema, comment: schema | comment, schemas, comments)


leaves = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "number", "integer", "boolean", "object", "array", "x"])}
    ),
    st.fixed_dictionaries({"type": st.just("string"), "enum": st.lists(st.one_of(texts, st.integers()), max_size=3)}),
    st.fixed_dictionaries({"type": st.lists(st.sampled_from(["string", "integer", "null"]), max_size=3)}),
    st.just({}),
)
schemas = st.recursive(
    with_comments(leaves),
    lambda inner: with_comments(
        st.one_of(
            st.fixed_dictionaries({"type": st.just("array"), "items": inner}),
            st.fixed_dictionaries({"oneOf": st.lists(inner, max_size=3)}),
            st.fixed_dictionaries(
                {
                    "type": st.just("object"),
                    "properties": st.dictionaries(st.sampled_from(["items", "b", "keys", "e e"]), inner, max_size=3),
                },
                optional={"required": st.lists(st.sampled_from(["items", "b", "z"]), max_size=2)},
            ),
        )
    ),
    max_leaves=6,
)
tools = st.lists(
    st.builds(
        lambda name, description, parameters: ChatTool.model_validate(
            {"function": {"name": name, "description": description, "parameters": parameters}}
        ),
        st.sampled_from(["f", "g"]),
        st.text(alphabet="ab\r\n", max_size=6),
        st.none() | schemas,
    ),
    max_size=2,
)


@given(messages=messages, tools=tools)
def test_any_prompt(codec: HarmonyCodec, messages: list[ChatMessage], tools: list[ChatTool]) -> None:
    assert rendered(SETTINGS, messages, tools) == codec.render_text(codec.render(messages, tools))
