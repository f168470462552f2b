"""The stream parser: equal to openai-harmony's parser on well-formed streams, and robust on malformed ones."""

from __future__ import annotations

import random
from pathlib import Path

import openai_harmony as oh
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harmony_text import encode_spelled_out
from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.encoding import load_harmony_encoding
from tuneyard.harmony.settings import CodecSettings
from tuneyard.harmony.stream_parser import ContentDelta
from tuneyard.harmony.vocabulary import ModelVocabulary


@pytest.fixture(scope="module")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings(conversation_date="2026-01-31"))


def parse(codec: HarmonyCodec, ids: list[int]) -> dict[str, str]:
    parser = codec.stream_parser()
    texts: dict[str, str] = {}
    for delta in [*parser.feed(ids), *parser.finish()]:
        texts[delta.channel] = texts.get(delta.channel, "") + delta.text
    return texts


@given(ids=st.lists(st.integers(0, 1100), max_size=80))
@settings(max_examples=200, deadline=None)
def test_no_token_stream_makes_the_parser_raise(codec: HarmonyCodec, ids: list[int]) -> None:
    parser = codec.stream_parser()
    deltas = [*parser.feed(ids), *parser.finish()]
    assert all(isinstance(delta, ContentDelta) and delta.text for delta in deltas)
    assert parser.finish() == []


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_equals_openai_harmonys_parser_on_well_formed_streams(codec: HarmonyCodec, tiny_oss: Path, seed: int) -> None:
    rng = random.Random(seed)
    words = ["alpha ", "β", "\U0001f389", "\n", "{}", "x", " to=y "]
    body = "".join(rng.choices(words, k=rng.randint(1, 12)))
    head = rng.choice(["", "<|channel|>analysis<|message|>hm<|end|><|start|>assistant"])
    header = rng.choice(["<|channel|>final", "<|channel|>commentary to=functions.f <|constrain|>json"])
    stream = f"{head}{header}<|message|>{body}{rng.choice(['<|return|>', '<|call|>'])}"
    encoding = load_harmony_encoding()
    reference = oh.StreamableParser(encoding, role=oh.Role.ASSISTANT)
    for token in encoding.encode(stream, allowed_special="all"):
        reference.process(token)
    expected = [(m.channel, m.recipient, m.content[0].text) for m in reference.messages]
    parser = codec.stream_parser()
    messages: list[tuple[str, str | None, str]] = []
    for delta in [*parser.feed(encode_spelled_out(tiny_oss, stream)), *parser.finish()]:
        if messages and messages[-1][:2] == (delta.channel, delta.recipient):
            messages[-1] = (*messages[-1][:2], messages[-1][2] + delta.text)
        else:
            messages.append((delta.channel, delta.recipient, delta.text))
    assert messages == expected
    assert not parser.malformed


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ("no header at all", {"final": "no header at all"}),
        ("<|channel|>final<|message|>cut", {"final": "cut"}),
        ("<|channel|>final<|message|>a<|channel|>final<|message|>b<|return|>", {"final": "ab"}),
        ("<|channel|>final<|message|>a<|start|>assistant<|channel|>final<|message|>b", {"final": "ab"}),
        ("<|channel|>final<|message|>a<|end|><|start|>user<|message|>invented", {"final": "a"}),
        ("<|channel|>nonsense<|message|>a<|return|>", {"final": "a"}),
        ("<|message|>a<|return|>ignored", {"final": "a"}),
        ("<|channel|>analysis<|message|>a<|end|>stray", {"analysis": "a", "final": "stray"}),
        ("<|channel|>final<|message|>a<|endoftext|>b", {"final": "ab"}),
        ("<|start|><|start|><|end|><|return|>", {}),
    ],
)
def test_malformed_output_is_recovered_and_flagged(
    codec: HarmonyCodec, tiny_oss: Path, stream: str, expected: dict[str, str]
) -> None:
    ids = encode_spelled_out(tiny_oss, stream)
    assert parse(codec, ids) == expected
    parser = codec.stream_parser()
    parser.feed(ids)
    parser.finish()
    assert parser.malformed or stream.endswith("cut")


def test_reasoning_tokens_are_the_tokens_of_analysis_messages(codec: HarmonyCodec, tiny_oss: Path) -> None:
    question = ChatMessage(role="user", content="q")
    answer = ChatMessage(role="assistant", content="answer", reasoning_content="some thought")
    (sample,) = codec.render_for_training(ChatExample(messages=(question, answer)))
    parser = codec.stream_parser()
    parser.feed(sample.token_ids[sample.loss_mask.index(True) :])
    assert parser.reasoning_tokens == len(ModelVocabulary(tiny_oss).encode_text("some thought"))
