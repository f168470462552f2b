"""What the scripted endpoint answers: deltas by the last word of the question."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

ANSWER = """Three things matter:

1. **Tokens**: the same in training and serving.
2. A *proved* checkpoint.
3. Code stays readable:

```python
def greet(name: str) -> str:
    return f"Hello, {name}!"
```

| step | seconds |
|---|---|
| load | 1.2 |
| answer | 3.4 |
"""
REASONING = "The user wants an overview. I should name the three pillars, show a code sample and keep it short. "
HOSTILE = """Before <div style="position:fixed;inset:0;background:red">COVER</div> after.

<form action="/sign-out"><input type="password" placeholder="Your API key"><button>Go</button></form>

<img src="/favicon.ico?leak"> ![picture](/favicon.ico?markdown) [click](javascript:document.title='owned')

<script>document.title = "owned"</script><style>#chat { display: none }</style>

Inline `<b>code</b>` stays, and so does

```html
<p class="x">kept &amp; whole</p>
```
"""
OPERATORS = "In Python `a<b` and: if a<b and c>d then use <div> or x<y>z. Also \\(a<b\\) and R&D &lt; done."
TABLE = """| Configuration option | Description of what the option does | Default | Environment variable |
|---|---|---|---|
| `max_concurrent_requests` | Number of requests that one replica answers at once | 16 | TUNEYARD_MAX_REQUESTS |
| `request_timeout_seconds` | How long a request may take until it is given up by the server | 600 | TUNEYARD_TIMEOUT |
"""
ARABIC = (
    "مرحبا بالعالم، هذا نص عربي طويل بما يكفي ليظهر اتجاهه.\n\n- البند الأول\n- البند الثاني\n\n"
    "| العمود | القيمة |\n|---|---|\n| أ | 1 |\n\nEnglish again."
)
LONG_WORDS = f"{'w' * 300} and `{'c' * 300}` and **{'b' * 300}**\n\n- {'i' * 300}\n\n> {'q' * 300}\n\n# {'h' * 300}"
LINES = [f"Line {number} of a long answer that goes on for quite a while.\n\n" for number in range(120)]
REPLIES = {"html": HOSTILE, "operators": OPERATORS, "table": TABLE, "arabic": ARABIC, "words": LONG_WORDS}
"""Answers that come word by word, without reasoning."""

CALL = ("get_weather", '{"city": "Paris", "unit": "celsius"}')


def script_of(body: dict[str, Any]) -> str:
    """The script of a request: the last word of its last message."""
    message = body["messages"][-1]
    return "result" if message["role"] == "tool" else str(message["content"]).split()[-1]


def deltas(script: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The deltas of a streamed answer, in OpenAI's form."""
    yield {"role": "assistant", "content": ""}
    match script:
        case "forever":
            while True:
                yield {"content": "and so on "}
        case "overview":
            yield from ({"reasoning_content": word + " "} for word in REASONING.split())
            yield from words(ANSWER)
        case "silent":
            yield {"reasoning_content": "Nothing to say."}
        case "vllm":
            yield {"reasoning": "Thought in the other field."}
            yield {"content": "Answered."}
        case "slow":
            yield from ({"content": line} for line in LINES)
        case "weather":
            yield from call_deltas()
        case "endless":
            yield from ({"content": f"Line {number} of an answer without an end.\n\n"} for number in count())
        case "echo":
            yield from words(body["messages"][-1]["content"])
        case "result":
            yield from words(f"It is {body['messages'][-1]['content']} in Paris.")
        case _ if script in REPLIES:
            yield from words(REPLIES[script])
        case _:
            if body.get("reasoning_effort") != "low":
                yield {"reasoning_content": "Let me think."}
            yield from ({"content": piece} for piece in ("You ", "said: ", body["messages"][-1]["content"]))


def words(text: str) -> Iterator[dict[str, str]]:
    """The text in deltas of a word each."""
    yield from ({"content": piece} for piece in text.replace(" ", " \x00").split("\x00"))


def call_deltas() -> Iterator[dict[str, Any]]:
    """A tool call whose arguments come in pieces."""
    name, arguments = CALL
    yield {
        "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}]
    }
    for start in range(0, len(arguments), 7):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": arguments[start : start + 7]}}]}
