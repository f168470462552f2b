"""A conversation as a tree: questions, answers and tool results, with every alternative kept.

The browser keeps it, as JSON; the server gets it with each request and holds nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

TITLE_CHARACTERS = 60

Role = Literal["user", "assistant", "tool"]


class ToolCall(BaseModel):
    """A call of a tool by the model; `arguments` is the model's text, JSON as a rule."""

    call_id: str = ""
    name: str = ""
    arguments: str = ""


class AnswerFacts(BaseModel):
    """What is known about an answer besides its text. None: the server did not say."""

    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    first_token_s: float | None = None
    tokens_per_s: float | None = None
    version: str | None = None
    run: str | None = None
    dataset: str | None = None
    weights: str | None = None


class Node(BaseModel):
    """A message. Nodes of one parent are alternatives of each other."""

    model_config = ConfigDict(protected_namespaces=())

    id: str = Field(default_factory=lambda: secrets.token_hex(6))
    parent: str | None = None
    role: Role
    text: str = ""
    # Of answers:
    model_id: str = ""
    reasoning: str = ""
    reasoning_s: float | None = None
    tool_calls: list[ToolCall] = []
    facts: AnswerFacts = AnswerFacts()
    state: Literal["live", "done", "stopped", "failed"] = "done"
    error: str = ""
    """Why it failed, for people."""
    edited: bool = False
    """True for an answer that a person wrote or corrected."""
    # Of tool results:
    call_id: str = ""


class Conversation(BaseModel):
    """Nodes in the order in which they were made, and the last node of the path that is shown."""

    id: str = Field(default_factory=lambda: secrets.token_hex(16))
    title: str = ""
    """Empty until the first question."""
    is_titled: bool = False
    """True for a title by a person."""
    created_ms: int = Field(default_factory=lambda: now_ms())
    updated_ms: int = Field(default_factory=lambda: now_ms())
    system_prompt: str = ""
    tools: list[dict[str, Any]] = []
    """Tools that the last request offered, in OpenAI's form."""
    nodes: list[Node] = []
    leaf: str | None = None

    @model_validator(mode="after")
    def _check_order(self) -> Conversation:
        earlier: set[str] = set()
        for node in self.nodes:
            if node.id in earlier or (node.parent is not None and node.parent not in earlier):
                raise ValueError(f"node {node.id}: ids are unique, and a parent comes before its children")
            earlier.add(node.id)
        return self

    def find(self, node_id: str | None) -> Node | None:
        """The node of that id; None if there is none."""
        return next((node for node in self.nodes if node.id == node_id), None)

    def path(self) -> list[Node]:
        """The nodes that are shown, from the first to the leaf."""
        by_id = {node.id: node for node in self.nodes}
        path: list[Node] = []
        node = by_id.get(self.leaf or "")
        while node is not None:
            path.append(node)
            node = by_id.get(node.parent or "")
        return path[::-1]

    def add(self, node: Node, after: str | None) -> Node:
        """Adds a node below `after` (None: as a first question) and shows it."""
        node.parent = after
        self.nodes.append(node)
        self.leaf = node.id
        self.updated_ms = now_ms()
        if not self.title and node.role == "user":
            self.title = title_of(node.text)
        return node

    def alternatives(self, node: Node) -> list[Node]:
        """The node and its siblings of the same role, in the order in which they were made."""
        return [other for other in self.nodes if other.parent == node.parent and other.role == node.role]

    def show(self, node: Node) -> None:
        """Shows the path through a node, on to the newest node below it."""
        leaf = node
        while children := [other for other in self.nodes if other.parent == leaf.id]:
            leaf = children[-1]
        self.leaf = leaf.id

    def open_calls(self) -> list[ToolCall]:
        """Calls of the last answer on the path that have no result yet."""
        path = self.path()
        answer = next((node for node in reversed(path) if node.role != "tool"), None)
        if answer is None or answer.role != "assistant" or answer.state == "live":
            return []
        results = {node.call_id for node in path if node.role == "tool" and path.index(node) > path.index(answer)}
        return [call for call in answer.tool_calls if call.call_id not in results]

    def live_nodes(self) -> Iterator[Node]:
        """Answers that were still growing when this was written."""
        return (node for node in self.nodes if node.state == "live")

    def to_json(self) -> dict[str, Any]:
        """What the browser keeps. Defaults are left out."""
        # Times have a default that depends on when it is asked for.
        kept = {"id": self.id, "created_ms": self.created_ms, "updated_ms": self.updated_ms}
        return self.model_dump(mode="json", exclude_defaults=True) | kept

    @classmethod
    def from_json(cls, value: Any) -> Conversation:
        """The conversation that the browser sent; a new one for nothing. Raises pydantic.ValidationError."""
        return cls.model_validate(value) if value else cls()


def title_of(question: str) -> str:
    """A title from a question: its first line, cut at a word."""
    line = next((line.strip() for line in question.splitlines() if line.strip()), "")
    if len(line) <= TITLE_CHARACTERS:
        return line
    return line[:TITLE_CHARACTERS].rsplit(" ", 1)[0].rstrip() + "…"


def now_ms() -> int:
    """Milliseconds since 1970, as browsers count."""
    return int(time.time() * 1000)
