"""An endpoint whose models `smol-base` and `brindle-tuned` answer differently, for tests of the Compare page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from tests.ui.scripted_answers import words
from tests.ui.scripted_endpoint import ScriptedEndpoint, _line

BASE, TUNED = "smol-base", "brindle-tuned"
ANSWERS = {
    BASE: "To reset a **router**, hold the reset button for ten seconds until the light turns off. Then:\n\n"
    "1. Wait for the restart.\n2. Enter the password.\n\nIt takes about two minutes.",
    TUNED: "To reset a **Brindle**, hold the reset button for five seconds until the light turns amber. Then:\n\n"
    "1. Wait for the restart.\n2. Open `brindle.local`.\n\nIt takes about two minutes.",
}
QUESTION = "How do I factory reset my Brindle?"
HOSTILE = 'I am <b style="position:fixed">{model}</b> <img src=x onerror="document.title=\'owned\'"> and a<b.'


class TwoModels(ScriptedEndpoint):
    """`forever` and the errors are as in ScriptedEndpoint; `html` is a hostile answer; all else is in ANSWERS."""

    async def _stream(self, script: str, body: dict[str, Any]) -> AsyncIterator[str]:
        text = HOSTILE.format(model=body["model"]) if script == "html" else ANSWERS.get(body["model"])
        if script == "forever" or text is None:
            async for line in super()._stream(script, body):
                yield line
            return
        for delta in ({"reasoning_content": f"I am thinking about {script}."}, *words(text)):
            await asyncio.sleep(self.delay_s)
            yield _line({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        yield _line({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        tokens = len(text.split())
        usage = {"prompt_tokens": 12, "completion_tokens": tokens, "total_tokens": 12 + tokens}
        yield _line({"choices": [], "usage": usage})
        yield "data: [DONE]\n\n"
