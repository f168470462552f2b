"""PageContext: what a page is built with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ui.endpoints.chat_client import ChatClient
from ui.endpoints.visitor import VisitorOf, anybody


@dataclass(frozen=True, kw_only=True)
class PageContext:
    """The endpoints, who uses them, and what the pages start with."""

    client: ChatClient
    title: str
    visitor_of: VisitorOf = anybody
    system_prompt: str = ""
    """Initial text of the system prompt box."""
    temperature: float = 1.0
    """Initial temperature, 0 to 2."""
    examples: Sequence[str] = ()
    """Questions offered on an empty page."""
