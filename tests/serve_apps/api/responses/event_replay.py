"""Replays the events of a streamed response, as a client does."""

from __future__ import annotations

from typing import Any


def replay(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The output items as a client builds them from the deltas."""
    items: list[dict[str, Any]] = []
    for event in events:
        index = event.get("output_index", -1)
        match event["type"]:
            case "response.output_item.added":
                assert index == len(items)
                items.append(event["item"])
            case "response.content_part.added":
                items[index]["content"].append(event["part"])
            case "response.reasoning_summary_part.added":
                items[index]["summary"].append(event["part"])
            case "response.output_text.delta":
                items[index]["content"][0]["text"] += event["delta"]
                items[index]["content"][0]["logprobs"] += event["logprobs"]
            case "response.reasoning_text.delta":
                items[index]["content"][0]["text"] += event["delta"]
            case "response.reasoning_summary_text.delta":
                items[index]["summary"][0]["text"] += event["delta"]
            case "response.function_call_arguments.delta":
                items[index]["arguments"] += event["delta"]
            case "response.output_item.done":
                items[index]["status"] = event["item"]["status"]
                assert items[index] == event["item"]
    return items
