"""The demo's accuracy: base and tuned, on held-out and on trained phrasings. Needs the demo's models."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from jobs.evaluate import Endpoint, evaluate
from serve_apps.deployment import Deployment
from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.cli.demo import ANSWER_TOKENS
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config

CONFIG = CHECKOUT / "serve_apps" / "configs" / "demo_cpu.yaml"
BASE_ROWS, TUNED_ROWS = 20, 100
"""At most so many rows, spread over the file: the base rambles to the token limit."""


def run() -> dict[str, Any]:
    """Shares (0 to 1) of answers that contain the fact, equal it, and are well-formed harmony."""
    config = load_config(ServeConfig, CONFIG)
    result: dict[str, Any] = {}
    with Deployment(config, address="local") as deployment:
        endpoints = {
            m.model_id: Endpoint(m.model_id, u) for m, u in zip(config.models, deployment.base_urls, strict=True)
        }
        for name in ("heldout", "train"):
            rows = load_chat_dataset(CHECKOUT / "jobs" / "data" / f"brindle_{name}.jsonl").examples
            for model, endpoint in endpoints.items():
                limit = TUNED_ROWS if model == "brindle-support" else BASE_ROWS
                asked = rows[:: max(1, len(rows) // limit)]
                score = asdict(evaluate(endpoint, asked, ANSWER_TOKENS))
                del score["answers"]
                result[f"{name}:{model}"] = score
    return result
