"""Conversations for property tests, made as the page makes them: by adding nodes and showing others."""

from __future__ import annotations

from hypothesis import strategies as st

from ui.chat.conversations.conversation import Conversation, Node, ToolCall

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=30).filter(str.strip)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """A conversation of up to a dozen steps: questions, answers, edits, retries, tool calls, some with results."""
    conversation = Conversation(system_prompt=draw(st.sampled_from(["", "Be brief."])))
    for _ in range(draw(st.integers(0, 12))):
        path = conversation.path()
        last = path[-1] if path else None
        step = draw(st.sampled_from(["ask", "answer", "call", "result", "edit", "retry", "show"]))
        if step == "ask" and (last is None or last.role == "assistant"):
            conversation.add(Node(role="user", text=draw(TEXTS)), conversation.leaf)
        elif step == "answer" and last is not None and last.role != "assistant":
            state = draw(st.sampled_from(["done", "done", "stopped", "failed"]))
            conversation.add(Node(role="assistant", text=draw(TEXTS), state=state), last.id)
        elif step == "call" and last is not None and last.role != "assistant":
            call = ToolCall(call_id=f"call_{len(conversation.nodes)}", name="look_up", arguments='{"word": "a"}')
            conversation.add(Node(role="assistant", tool_calls=[call]), last.id)
        elif step == "result" and (open_calls := conversation.open_calls()):
            conversation.add(Node(role="tool", text=draw(TEXTS), call_id=open_calls[0].call_id), conversation.leaf)
        elif step == "edit" and path:
            edited = draw(st.sampled_from([node for node in path if node.role == "user"] or [path[0]]))
            conversation.add(Node(role=edited.role, text=draw(TEXTS), call_id=edited.call_id), edited.parent)
        elif step == "retry" and last is not None and last.role == "assistant":
            conversation.add(Node(role="assistant", text=draw(TEXTS)), last.parent)
        elif step == "show" and conversation.nodes:
            conversation.show(draw(st.sampled_from(conversation.nodes)))
    return conversation
