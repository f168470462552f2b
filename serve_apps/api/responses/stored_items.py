"""Stored items: the input of a request as it is stored, and stored items as the input of a request."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from serve_apps.api.responses.store import StoredItem
from tuneyard.api.wire.responses.items import InputItem, MessageItem

_INPUT_ITEM: TypeAdapter[InputItem] = TypeAdapter(InputItem)
_ID_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def item_fields(item: InputItem) -> dict[str, Any]:
    """The item as OpenAI's list of input items shows it: with an id and a status, and text as parts."""
    fields: dict[str, Any] = {"id": new_item_id(item), "status": "completed"}
    fields |= item.model_dump(exclude_none=True, exclude={"encrypted_content"})
    if isinstance(item, MessageItem) and isinstance(item.content, str):
        is_answer = item.role == "assistant"
        part: dict[str, Any] = {"type": "output_text", "annotations": []} if is_answer else {"type": "input_text"}
        fields["content"] = [part | {"text": item.content}]
    return fields


def new_item_id(item: InputItem) -> str:
    """A new id for an item, with the prefix of its type."""
    return f"{_ID_PREFIXES[item.type]}_{uuid.uuid4().hex}"


def parse_items(items: Sequence[StoredItem]) -> list[InputItem]:
    """Stored items, of input or output, as a request's input."""
    return [_INPUT_ITEM.validate_python(item.content) for item in items]
