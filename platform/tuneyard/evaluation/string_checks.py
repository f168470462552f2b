"""String checks: whether an answer equals or contains a reference."""

from __future__ import annotations

from typing import Literal

StringOperation = Literal["eq", "ne", "like", "ilike"]


def passes_string_check(operation: StringOperation, text: str, reference: str) -> bool:
    """Whether the text equals the reference (`eq`), differs from it (`ne`) or contains it (`like`, and `ilike` for any
    case).

    Source: OpenAI, guide "Graders", section "String check graders". Spaces count.
    """
    match operation:
        case "eq":
            return text == reference
        case "ne":
            return text != reference
        case "like":
            return reference in text
        case "ilike":
            return reference.lower() in text.lower()
