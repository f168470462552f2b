"""Accuracy of the demo's base and finetuned model on held-out and on training questions. Needs the demo's models."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from jobs.evaluation.served_model import Endpoint, evaluate
from serve_apps.lifecycle import Deployment
from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.cli.demo import ANSWER_TOKENS
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config

CONFIG = CHECKOUT / "serve_apps" / "configs" / "demo_cpu.yaml"
BASE_ROWS, TUNED_ROWS = 20, 100
"""Most rows per model, spread over the file. Fewer for the base, whose answers reach the token limit."""


def run() -> dict[str, Any]:
    """Shares (0 to 1) of answers that contain the fact, equal it, and are well-formed harmony."""
    config = load_config(ServeConfig, CONFIG)
    result: dict[str, Any] = {}
    with Deployment(config, address="local") as deployment:
        endpoints = {
            m.model_id: Endpoint(m.model_id, u) for m, u in zip(config.models, deployment.base_urls, strict=True)
        }
        for name in ("heldout", "train"):
            rows = load_chat_dataset(str(CHECKOUT / "jobs" / "data" / f"brindle_{name}.jsonl")).examples
            for model, endpoint in endpoints.items():
                limit = TUNED_ROWS if model == "brindle-support" else BASE_ROWS
                sample = rows[:: max(1, len(rows) // limit)]
                score = asdict(evaluate(endpoint, sample, ANSWER_TOKENS))
                del score["answers"]
                result[f"{name}:{model}"] = score
    return result
