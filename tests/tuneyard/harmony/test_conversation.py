"""Tools, calls and results: rendered as openai-harmony renders them, for training and for serving."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openai_harmony as oh
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneyard.chats.messages import ChatExample, ChatMessage, ChatTool, FunctionCall, ToolCall
from tuneyard.harmony.bridge import VocabularyBridge
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.conversation import called_functions, developer_message, system_message, to_harmony
from tuneyard.harmony.encoding import load_harmony_encoding
from tuneyard.harmony.settings import CodecSettings
from tuneyard.harmony.vocabulary import ModelVocabulary

TOOL = ChatTool.model_validate(
    {
        "function": {
            "name": "now",
            "description": "The time.",
            "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}},
        }
    }
)
CALL = ToolCall(id="1", function=FunctionCall(name="now", arguments='{"zone":"UTC"}'))
MESSAGES = (
    ChatMessage(role="system", content="Be exact."),
    ChatMessage(role="user", content="Time?"),
    ChatMessage(role="assistant", reasoning_content="Ask the clock.", tool_calls=(CALL,)),
    ChatMessage(role="tool", content="12:00", tool_call_id="1"),
    ChatMessage(role="assistant", content="Noon.", reasoning_content="It is twelve."),
    ChatMessage(role="user", content="Thanks. And now?"),
)


@pytest.fixture(scope="module")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings(conversation_date="2026-01-31"))


def reference(count: int) -> str:
    """openai-harmony's rendering of the first `count` messages, with its own rule for earlier reasoning."""
    assistant = oh.Role.ASSISTANT
    tool = oh.ToolDescription.new("now", "The time.", TOOL.function.parameters)
    developer = oh.DeveloperContent.new().with_instructions("Be exact.").with_function_tools([tool])
    system = oh.SystemContent.new().with_conversation_start_date("2026-01-31")
    call = oh.Message.from_role_and_content(assistant, CALL.function.arguments).with_channel("commentary")
    result = oh.Message(
        author=oh.Author(role=oh.Role.TOOL, name="functions.now"), content=[oh.TextContent(text="12:00")]
    )
    per_message = [
        [oh.Message.from_role_and_content(oh.Role.DEVELOPER, developer)],
        [oh.Message.from_role_and_content(oh.Role.USER, "Time?")],
        [
            oh.Message.from_role_and_content(assistant, "Ask the clock.").with_channel("analysis"),
            call.with_recipient("functions.now").with_content_type("<|constrain|>json"),
        ],
        [result.with_channel("commentary").with_recipient("assistant")],
        [
            oh.Message.from_role_and_content(assistant, "It is twelve.").with_channel("analysis"),
            oh.Message.from_role_and_content(assistant, "Noon.").with_channel("final"),
        ],
        [oh.Message.from_role_and_content(oh.Role.USER, "Thanks. And now?")],
    ]
    conversation = oh.Conversation.from_messages(
        [oh.Message.from_role_and_content(oh.Role.SYSTEM, system)] + [m for ms in per_message[:count] for m in ms]
    )
    encoding = load_harmony_encoding()
    return str(encoding.decode(encoding.render_conversation_for_completion(conversation, assistant)))


@pytest.mark.parametrize("count", [2, 4, 6])
def test_prompts_with_tools_equal_those_of_openai_harmony(codec: HarmonyCodec, count: int) -> None:
    assert codec.render_text(codec.render(MESSAGES[:count], (TOOL,))) == reference(count)


def test_reasoning_is_kept_during_tool_calls_and_dropped_after_the_answer(codec: HarmonyCodec) -> None:
    assert "Ask the clock." in codec.render_text(codec.render(MESSAGES[:4], (TOOL,)))
    later = codec.render_text(codec.render(MESSAGES, (TOOL,)))
    assert "Ask the clock." not in later
    assert "It is twelve." not in later


def test_a_call_is_trained_up_to_its_call_token(codec: HarmonyCodec) -> None:
    call, answer = codec.render_for_training(ChatExample(messages=MESSAGES[:5], tools=(TOOL,)))
    trained = [t for t, m in zip(call.token_ids, call.loss_mask, strict=True) if m]
    assert codec.render_text(trained) == (
        "<|channel|>analysis<|message|>Ask the clock.<|end|><|start|>assistant to=functions.now"
        '<|channel|>commentary <|constrain|>json<|message|>{"zone":"UTC"}<|call|>'
    )
    assert codec.render_text(answer.token_ids).startswith(reference(4))
    parser = codec.stream_parser()
    deltas = [*parser.feed(trained), *parser.finish()]
    assert "".join(d.text for d in deltas if d.recipient == "functions.now") == '{"zone":"UTC"}'
    assert not parser.malformed


def test_weight_0_and_reasoning_can_be_excluded_from_the_loss(codec: HarmonyCodec) -> None:
    muted = MESSAGES[2].model_copy(update={"weight": 0})
    (sample,) = codec.render_for_training(
        ChatExample(messages=(*MESSAGES[:2], muted, *MESSAGES[3:5]), tools=(TOOL,)), train_on_reasoning=False
    )
    trained = [t for t, m in zip(sample.token_ids, sample.loss_mask, strict=True) if m]
    assert codec.render_text(trained) == "<|channel|>final<|message|>Noon.<|return|>"
    assert "It is twelve." in codec.render_text(sample.token_ids)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
answers = st.builds(
    lambda content, reasoning, preamble, arguments: ChatMessage(
        role="assistant",
        content=content if arguments is None else preamble,
        reasoning_content=reasoning,
        tool_calls=()
        if arguments is None
        else (ToolCall(function=FunctionCall(name="now", arguments=json.dumps({"zone": arguments}))),),
    ),
    texts,
    st.none() | texts,
    st.just("") | texts,
    st.none() | texts,
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[ChatMessage, ...]:
    """An optional system message, then turns; every call has a result."""
    messages = [ChatMessage(role="system", content=draw(texts))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(ChatMessage(role="user", content=draw(texts)))
        answer = draw(answers)
        while answer.tool_calls:
            messages += [answer, ChatMessage(role="tool", content=draw(texts))]
            answer = draw(answers)
        messages.append(answer)
    return tuple(messages)


@given(messages=conversations(), cut=st.integers(0, 80))
@settings(max_examples=60)
def test_the_loss_mask_covers_every_turn_exactly_and_turns_parse_back(
    codec: HarmonyCodec, messages: tuple[ChatMessage, ...], cut: int
) -> None:
    """With any Unicode text, calls, results and several turns; the answer's tokens are split anywhere."""
    samples = codec.render_for_training(ChatExample(messages=messages, tools=(TOOL,)))
    turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
    for index, sample in zip(turns, samples, strict=True):
        prompt = codec.render(messages[:index], (TOOL,))
        assert sample.token_ids[: len(prompt)] == prompt
        assert sample.loss_mask == [False] * len(prompt) + [True] * (len(sample.token_ids) - len(prompt))
        answer = sample.token_ids[len(prompt) :]
        parser = codec.stream_parser()
        deltas = [*parser.feed(answer[:cut]), *parser.feed(answer[cut:]), *parser.finish()]
        texts_by_channel: dict[tuple[str, str | None], str] = {}
        for delta in deltas:
            key = (delta.channel, delta.recipient)
            texts_by_channel[key] = texts_by_channel.get(key, "") + delta.text
        turn = messages[index]
        expected = {("analysis", None): turn.reasoning_content or ""}
        expected["commentary" if turn.tool_calls else "final", None] = turn.content
        if turn.tool_calls:
            expected["commentary", "functions.now"] = turn.tool_calls[0].function.arguments
        assert texts_by_channel == {key: text for key, text in expected.items() if text}
        assert parser.complete
        assert not parser.malformed


@given(messages=conversations(), with_tools=st.booleans(), cut=st.integers(1, 9))
@settings(max_examples=60)
def test_a_prompt_equals_openai_harmonys_rendering_of_the_whole_conversation(
    codec: HarmonyCodec, messages: tuple[ChatMessage, ...], with_tools: bool, cut: int
) -> None:
    messages, tools = messages[:cut], (TOOL,) if with_tools else ()
    last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=0)
    harmony = [system_message(codec.settings, None, None)]
    if tools and messages[0].role != "system":
        harmony.append(developer_message("", tools))
    for index, (message, called) in enumerate(zip(messages, called_functions(messages), strict=True)):
        harmony += to_harmony(message, tools if index == 0 else (), called, with_reasoning=index > last_user)
    encoding = load_harmony_encoding()
    whole = encoding.render_conversation_for_completion(
        oh.Conversation.from_messages(harmony), oh.Role.ASSISTANT, oh.RenderConversationConfig(auto_drop_analysis=False)
    )
    vocabulary = ModelVocabulary(codec.checkpoint)
    assert codec.render(messages, tools) == VocabularyBridge(encoding, vocabulary).to_model_ids(whole)


def test_ids_with_a_real_o200k_tokenizer_equal_those_of_openai_harmony(tmp_path: Path) -> None:
    """With a Hugging Face tokenizer.json built from the o200k ranks, the bridge must not change any id."""
    from jobs.bases.o200k_tokenizer import build_o200k_tokenizer

    build_o200k_tokenizer().save(str(tmp_path / "tokenizer.json"))
    codec = HarmonyCodec.from_checkpoint(tmp_path, CodecSettings())
    encoding = load_harmony_encoding()
    rng = random.Random(7)
    alphabets = [
        "abc DEF 123 .,!?\n\t",
        "äöüß éñ çø",
        "日本語漢字かな",
        "\U0001f389\U0001f9d1\u200d\U0001f680",
        "{}[]<|>/\\\"'",
    ]
    for number in range(300):
        text = "".join(
            chr(rng.randrange(0x20, 0x2FFF)) if rng.random() < 0.2 else rng.choice(rng.choice(alphabets))
            for _ in range(rng.randint(1, 60))
        )
        conversation = oh.Conversation.from_messages(
            [
                oh.Message.from_role_and_content(oh.Role.SYSTEM, oh.SystemContent.new()),
                oh.Message.from_role_and_content(oh.Role.USER, text),
            ]
        )
        expected = encoding.render_conversation_for_completion(conversation, oh.Role.ASSISTANT)
        assert codec.render([ChatMessage(role="user", content=text)]) == expected, (number, text)


class CountedMessages(Sequence[ChatMessage]):
    """A sequence that counts how many of its messages are read."""

    def __init__(self, messages: Sequence[ChatMessage]) -> None:
        self._messages = messages
        self.reads = 0

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, index: Any) -> Any:
        found = self._messages[index]
        self.reads += len(found) if isinstance(index, slice) else 1
        return found


def test_ten_thousand_calls_and_results_are_read_a_constant_number_of_times(codec: HarmonyCodec) -> None:
    """The name of the called function is not searched for in the history of each result."""
    pair = (ChatMessage(role="assistant", tool_calls=(CALL,)), ChatMessage(role="tool", content="x"))
    without_calls = [ChatMessage(role="tool", content="x")] * 1000
    for history in (pair * 10_000, without_calls):
        messages = CountedMessages((ChatMessage(role="user", content="q"), *history))
        ids = codec.render(messages)
        assert messages.reads <= 4 * len(messages)
    assert codec.render_text(ids).count("functions.unknown") == 1000
