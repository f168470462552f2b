from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.ui.chat.trees import conversations
from tuneyard.cli.main import main as tuneyard
from ui.chat.conversations.conversation import Conversation
from ui.chat.conversations.exchange import ImportRefusedError, export_jsonl, import_jsonl
from ui.chat.conversations.messages import exported_messages

TOOLS = [
    {
        "type": "function",
        "function": {"name": "look_up", "parameters": {"type": "object", "properties": {"word": {"type": "string"}}}},
    }
]


@given(conversations())
def test_an_export_is_imported_with_the_same_messages(conversation: Conversation) -> None:
    conversation.tools = TOOLS
    text = export_jsonl([conversation])
    if text:
        (imported,) = import_jsonl(text)
        assert exported_messages(imported) == exported_messages(conversation)
        assert export_jsonl([imported]) == text


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversations())
def test_an_export_is_valid_training_data(tmp_path: Path, conversation: Conversation) -> None:
    conversation.tools = TOOLS
    text = export_jsonl([conversation])
    if text:
        file = tmp_path / "conversations.jsonl"
        file.write_text(text, encoding="utf-8")
        assert tuneyard(["data", "validate", str(file)]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n \n", "The file is empty"),
        ('{"messages": [{"role": "user", "content": "a"}]}\nnot json', "Line 2 is not JSON"),
        ('{"prompt": "a"}', 'Line 1 has no "messages"'),
        ('{"messages": [{"role": "robot", "content": "a"}]}', "role 'robot' is not one of"),
        ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "content must be text"),
        ('{"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}', "a tool call needs"),
    ],
)
def test_a_file_that_holds_no_conversations_is_refused(text: str, message: str) -> None:
    with pytest.raises(ImportRefusedError, match=message):
        import_jsonl(text)


def test_other_separators_of_lines_do_not_cut_a_row() -> None:
    row = json.dumps({"messages": [{"role": "user", "content": "a\u2028b"}]}, ensure_ascii=False)
    (imported,) = import_jsonl(row + "\n")
    assert imported.nodes[0].text == "a\u2028b"
