"""Text completions with the transformers engine: compared with transformers itself, streamed, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import transformers

from tests.serve_apps.api_client import TEXT, completion, post


async def test_a_completion_is_transformers_own(tiny_client: httpx.AsyncClient, tiny_oss: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tiny_oss, dtype=torch.float32, attn_implementation="eager"
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_oss)
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    expected = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    by_text = await post(tiny_client, "/v1/completions", completion())
    assert by_text["choices"][0]["text"] == expected
    assert by_text["usage"]["prompt_tokens"] == ids.shape[1]
    by_ids = await post(tiny_client, "/v1/completions", completion(prompt=ids[0].tolist()))
    assert by_ids["choices"] == by_text["choices"]


async def test_a_streamed_completion_is_the_same(tiny_client: httpx.AsyncClient) -> None:
    body = completion(n=2, seed=5, temperature=1.5, logprobs=2, max_tokens=16)
    whole = await post(tiny_client, "/v1/completions", body)
    response = await tiny_client.post(
        "/v1/completions", json=body | {"stream": True, "stream_options": {"include_usage": True}}
    )
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    for index in (0, 1):
        pieces = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        assert "".join(piece["text"] for piece in pieces) == whole["choices"][index]["text"]
        tokens = [token for piece in pieces for token in piece["logprobs"]["tokens"]]
        assert tokens == whole["choices"][index]["logprobs"]["tokens"]
        assert pieces[-1]["finish_reason"] == whole["choices"][index]["finish_reason"]
    assert chunks[-1]["usage"] == whole["usage"]
    assert whole["choices"][0]["text"] != whole["choices"][1]["text"]


async def test_a_completion_stops_before_a_string(tiny_client: httpx.AsyncClient) -> None:
    text = (await post(tiny_client, "/v1/completions", completion()))["choices"][0]["text"]
    cut = await post(tiny_client, "/v1/completions", completion(stop=text[4:7]))
    assert cut["choices"][0] == {
        "index": 0,
        "text": text[: text.index(text[4:7])],
        "finish_reason": "stop",
        "logprobs": None,
    }


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": [20, 5000]}, None),
        ({"prompt": "word " * 5000}, "prompt"),
        ({"echo": True}, "echo"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"logprobs": 9}, "logprobs"),
        ({"model": "other"}, "model"),
    ],
)
async def test_completions_refuse_by_name(tiny_client: httpx.AsyncClient, change: dict[str, Any], param: str) -> None:
    response = await tiny_client.post("/v1/completions", json=completion(**change))
    assert response.status_code in (400, 404)
    assert response.json()["error"]["param"] == param
