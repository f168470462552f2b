"""Text completions with the transformers engine: compared with transformers itself, streamed, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import transformers

from serve_apps.engines.engine import OPTIONS
from tests.serve_apps.api_client import TEXT, client_of, completion, decode_events, post
from tests.serve_apps.conftest import ModelFactory


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
    *chunks, done = decode_events(response.text)
    assert done == "[DONE]"
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
        ({"prompt": ["fine", ""]}, "prompt.1"),
        ({"prompt": [[1, 2], []]}, "prompt.1"),
        ({"prompt": [1, "x"]}, "prompt"),
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


async def test_lists_of_prompts_are_answered_in_order(tiny_client: httpx.AsyncClient, tiny_oss: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_oss)
    texts = [TEXT, "Hello", "A longer text about filters."]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    alone = [await post(tiny_client, "/v1/completions", completion(prompt=text)) for text in texts]
    for prompts in (texts, ids):
        together = await post(tiny_client, "/v1/completions", completion(prompt=prompts))
        assert [choice["index"] for choice in together["choices"]] == [0, 1, 2]
        assert [c["text"] for c in together["choices"]] == [a["choices"][0]["text"] for a in alone]
        assert together["usage"]["total_tokens"] == sum(a["usage"]["total_tokens"] for a in alone)
    twice = await post(tiny_client, "/v1/completions", completion(prompt=texts, n=2, seed=1, temperature=1))
    assert [choice["index"] for choice in twice["choices"]] == [0, 1, 2, 3, 4, 5]
    assert twice["usage"]["prompt_tokens"] == together["usage"]["prompt_tokens"]


async def test_echo_with_logprobs_scores_the_prompt(tiny_client: httpx.AsyncClient, tiny_oss: Path) -> None:
    """As lm-eval's local-completions asks: token ids in lists, log-probabilities of the prompt's own tokens."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tiny_oss, dtype=torch.float32, attn_implementation="eager"
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_oss)
    prompts = [tokenizer(text)["input_ids"] for text in (TEXT * 40, "Hello there")]
    body = completion(prompt=prompts, max_tokens=1, echo=True, logprobs=1)
    answered = await post(tiny_client, "/v1/completions", body)
    for prompt, choice in zip(prompts, answered["choices"], strict=True):
        with torch.inference_mode():
            expected = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
        logprobs = choice["logprobs"]
        assert len(logprobs["tokens"]) == len(logprobs["top_logprobs"]) == len(prompt) + 1
        assert logprobs["token_logprobs"][0] is None
        own = [float(expected[i, token]) for i, token in enumerate(prompt[1:])]
        assert logprobs["token_logprobs"][1:-1] == pytest.approx(own, abs=1e-3)
        best = [float(row.max()) for row in expected[:-1]]
        assert [max(top.values()) for top in logprobs["top_logprobs"][1:-1]] == pytest.approx(best, abs=1e-3)
        assert choice["text"].startswith(tokenizer.decode(prompt))
        assert [choice["text"][i:][:1] for i in logprobs["text_offset"][:5]] == [t[:1] for t in logprobs["tokens"][:5]]


async def test_echo_begins_with_the_prompt(tiny_client: httpx.AsyncClient) -> None:
    plain = (await post(tiny_client, "/v1/completions", completion()))["choices"][0]["text"]
    echoed = await post(tiny_client, "/v1/completions", completion(echo=True, stop=TEXT[:4]))
    assert echoed["choices"][0]["text"] == TEXT + plain
    response = await tiny_client.post("/v1/completions", json=completion(echo=True, stream=True, logprobs=0))
    *chunks, _ = decode_events(response.text)
    assert "".join(c["text"] for chunk in chunks for c in chunk["choices"]) == TEXT + plain
    assert chunks[0]["choices"][0] | {"logprobs": None} == {
        "index": 0,
        "text": TEXT,
        "finish_reason": None,
        "logprobs": None,
    }


async def test_an_engine_without_prompt_scores_refuses_echo_with_logprobs(make_model: ModelFactory) -> None:
    async with client_of(make_model("x<|return|>", options=OPTIONS - {"prompt_logprobs"})) as client:
        for stream in (False, True):
            body = completion(echo=True, logprobs=1, stream=stream)
            refused = await client.post("/v1/completions", json=body)
            error = refused.json()["error"]
            assert (refused.status_code, error["param"]) == (400, "echo")
            assert error["message"].startswith("echo with logprobs is not supported by this engine")


@pytest.mark.parametrize("token", [-1, 2**70])
async def test_unknown_token_ids_are_refused_with_echo_too(tiny_client: httpx.AsyncClient, token: int) -> None:
    body = {"model": "tiny", "prompt": [token], "echo": True, "max_tokens": 1}
    refused = await tiny_client.post("/v1/completions", json=body)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"].startswith("prompt")
