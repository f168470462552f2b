"""Texts and chats become the tokens that completions use, and back."""

from __future__ import annotations

import httpx

from serve_apps.api.tokenization import TokenizationService
from serve_apps.engine_wrappers.token_charge import charge_tokens_to
from tests.serve_apps.api_client import ANSWER, CHAT, post
from tests.serve_apps.conftest import ModelFactory
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.wire.tokenization import DetokenizeRequest, TokenizeRequest


async def test_tokenize_and_detokenize_round_trip(tiny_client: httpx.AsyncClient) -> None:
    text = "Grüße <|end|> 42"
    found = await post(tiny_client, "/tokenize", {"model": "tiny", "prompt": text})
    assert found["count"] == len(found["tokens"])
    assert found["max_model_len"] == 4096
    back = await post(tiny_client, "/detokenize", {"model": "tiny", "tokens": found["tokens"]})
    assert back["prompt"] == text
    chat = await post(tiny_client, "/tokenize", {"model": "tiny", "messages": CHAT["messages"]})
    usage = (await post(tiny_client, "/v1/chat/completions", CHAT | {"max_tokens": 1}))["usage"]
    assert chat["count"] == usage["prompt_tokens"]
    for body, param in (({"tokens": [99999]}, "tokens"), ({"tokens": "x"}, "tokens")):
        refused = await tiny_client.post("/detokenize", json={"model": "tiny"} | body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    for body in ({}, {"prompt": "x", "reasoning_effort": "low"}):
        refused = await tiny_client.post("/tokenize", json={"model": "tiny"} | body)
        assert refused.json()["error"]["param"] == "prompt"


async def test_the_tokens_are_charged(make_model: ModelFactory) -> None:
    service = TokenizationService(make_model(ANSWER))
    charged: list[UsageCounts] = []
    with charge_tokens_to(charged.append):
        ids = (await service.tokenize(TokenizeRequest.parse({"model": "tiny", "prompt": "What is E47?"}))).tokens
        await service.detokenize(DetokenizeRequest.parse({"model": "tiny", "tokens": ids * 3}))
    assert charged == [UsageCounts(prompt_tokens=len(ids)), UsageCounts(prompt_tokens=3 * len(ids))]
