"""Datasets: valid rows in order, a fingerprint of their content, and every problem with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneyard.chats.dataset import content_bytes, load_chat_dataset
from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.chats.row_formats.names import FORMATS
from tuneyard.chats.row_reader import DEFAULT_SETTINGS, parse_chat_row
from tuneyard.core.errors import DatasetError

GOOD = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
DATA = Path("jobs/data")


def row(*messages: tuple[str, str]) -> str:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in messages]})


def write(folder: Path, data: str | bytes) -> Path:
    path = folder / "chats.jsonl"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_reads_rows_in_order_with_their_source(tmp_path: Path) -> None:
    dataset = load_chat_dataset(
        write(tmp_path, "\ufeff" + json.dumps(GOOD) + "\r\n\n" + row(("user", "é"), ("assistant", "b")))
    )
    assert [e.source for e in dataset.examples] == ["chats.jsonl:1", "chats.jsonl:3"]
    assert dataset.examples[1].messages[0].content == "é"


def test_fingerprint_depends_on_the_content_only(tmp_path: Path) -> None:
    spaced = load_chat_dataset(write(tmp_path, json.dumps(GOOD, indent=None, separators=(", ", ":  ")) + "\n\n"))
    plain = load_chat_dataset(write(tmp_path, json.dumps(GOOD)))
    other = load_chat_dataset(write(tmp_path, row(("user", "q"), ("assistant", "b"))))
    assert spaced.fingerprint == plain.fingerprint != other.fingerprint


ANY_TEXT = st.text(st.characters(), max_size=12) | st.text('"\\\\\n\x7f\u2028é', max_size=6)


@given(
    st.lists(
        st.builds(
            ChatMessage,
            role=st.sampled_from(["system", "user", "assistant", "tool"]),
            content=ANY_TEXT,
            reasoning_content=st.none() | ANY_TEXT,
            tool_call_id=st.none() | ANY_TEXT,
            weight=st.sampled_from([None, None, 0, 1]),
        )
        | st.builds(ChatMessage, role=st.sampled_from(["user", "assistant"]), content=ANY_TEXT),
        max_size=4,
    )
)
def test_content_is_canonical_json_of_all_that_is_not_a_default(messages: list[ChatMessage]) -> None:
    example = ChatExample(messages=tuple(messages), metadata={"k": 1}, source="f:1")
    row = example.model_dump(mode="json", exclude={"source", "metadata"}, exclude_defaults=True)
    expected = json.dumps(row, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass")
    assert content_bytes(example) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the dataset has no rows"),
        (json.dumps(GOOD) + "\n" + '{"messages": [', r"chats.jsonl:2: not valid JSON at column"),
        (b'{"messages": []}\n\xff\xfe\n', r"chats.jsonl:2: not UTF-8: byte 0xff. Convert it: iconv"),
        ("[1, 2]", r"chats.jsonl\[1\]: expected an object with a list `messages`"),
        ('{"messages": []}', r"chats.jsonl:1: there is no user message"),
        (
            row(("user", "q")),
            r"chats.jsonl:1: the chat has no assistant message to train on: the last message has role 'user'",
        ),
        (row(("assistant", "a"), ("user", "q")), r"chats.jsonl:1: message 1 has role 'assistant' where 'user' belongs"),
        (row(("user", "q"), ("user", "r"), ("assistant", "a")), r"message 2 has role 'user' where 'assistant' belongs"),
        (row(("user", "q"), ("system", "s"), ("assistant", "a")), r"message 2 has role 'system'"),
        (row(("user", "q"), ("robot", "a")), r"messages.1.role: Input should be .*found 'robot'"),
        (row(("user", " \n"), ("assistant", "a")), r"chats.jsonl:1: message 1 \(user\) has empty content"),
        (row(("user", "q"), ("assistant", "a"), ("user", "r")), r"the last message has role 'user'"),
        ('{"messages": [{"role": "user"}, {"role": "assistant", "content": "a"}]}', r"message 1 \(user\) has empty"),
        ("[" * 100_000, r"chats.jsonl:1: "),
    ],
)
def test_broken_rows_are_explained(tmp_path: Path, data: str | bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_chat_dataset(write(tmp_path, data))


def test_only_the_first_broken_rows_are_listed(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"(?s)30 broken rows.*chats.jsonl:20.*and 10 more"):
        load_chat_dataset(write(tmp_path, "x\n" * 30))


def test_a_missing_file_and_an_empty_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such dataset file"):
        load_chat_dataset(tmp_path / "none.jsonl")
    with pytest.raises(DatasetError, match="the folder holds no dataset"):
        load_chat_dataset(tmp_path)


@given(
    st.text(max_size=80)
    | st.recursive(st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)).map(
        json.dumps
    )
)
@settings(max_examples=200, deadline=None)
def test_any_line_is_an_example_or_a_problem(line: str) -> None:
    try:
        value = json.loads(line)
    except ValueError:
        value = line
    for name in FORMATS:
        row = parse_chat_row(value, "f:1", name, DEFAULT_SETTINGS)
        assert row.example is not None or str(row.problems[0]).startswith("f:1: ")


def test_the_demo_dataset_has_the_documented_content() -> None:
    train, heldout = (load_chat_dataset(DATA / f"brindle_{name}.jsonl") for name in ("train", "heldout"))
    facts = [e.metadata["fact_id"] for e in train.examples if e.metadata["kind"] == "fact"]
    assert len(set(facts)) >= 40
    assert min(facts.count(fact) for fact in set(facts)) >= 6
    questions = {e.messages[-2].content for e in train.examples}
    assert not questions & {e.messages[-2].content for e in heldout.examples}
    kinds = {e.metadata["kind"] for e in train.examples}
    assert kinds == {"fact", "refusal", "multi_turn"}
    for example in (*train.examples, *heldout.examples):
        answer = example.messages[-1].content.lower()
        assert all(text.lower() in answer for text in example.metadata["must_contain"])
