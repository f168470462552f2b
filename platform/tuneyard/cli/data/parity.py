"""`tuneyard data parity`: renders a model's training prompts again, here or at an endpoint, and compares token ids."""

from __future__ import annotations

import argparse
import os

import httpx

from tuneyard.api.admin_key import load_admin_key
from tuneyard.checkpoints.manifest import read_manifest
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.checkpoints.references import resolve_checkpoint
from tuneyard.cli.data.inputs import load_codec
from tuneyard.core.errors import CheckpointError
from tuneyard.harmony.parity import check_parity, render_over_http, render_with
from tuneyard.harmony.parity_rows import parse_parity_rows


def check_model_parity(arguments: argparse.Namespace) -> None:
    """The action. Raises ParityError at the first token that differs."""
    folder = local_folder(resolve_checkpoint(arguments.model), weights=False)
    manifest = read_manifest(folder)
    rows = parse_parity_rows(manifest.parity)
    if manifest.codec is None or not rows:
        raise CheckpointError(
            f"{folder}: its manifest holds no training prompts to compare, because its kind is {manifest.kind}. "
            "Give a model that Tuneyard finetuned."
        )
    codec = load_codec(str(folder))
    if arguments.base_url:
        model_id = arguments.model_id or _first_model_id(arguments.base_url)
        where, render = arguments.base_url, render_over_http(arguments.base_url, model_id, load_admin_key())
    else:
        where, render = "this installation", render_with(codec)
    tokens = check_parity(rows, render, codec, where)
    print(
        f"{manifest.name}/{manifest.version}: {len(rows)} training prompts with {tokens} tokens are rendered equally "
        f"at {where}"
    )


def _first_model_id(base_url: str) -> str:
    """Returns the first model that the endpoint lists. Sends OPENAI_API_KEY as the API key, if it is set."""
    try:
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        response = httpx.get(base_url.rstrip("/") + "/models", timeout=10, headers=headers)
        response.raise_for_status()
        return str(response.json()["data"][0]["id"])
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as e:
        raise CheckpointError(
            f"{base_url}/models does not list models: {e!r}. Give --model-id, or set OPENAI_API_KEY if the endpoint "
            "requires API keys."
        ) from e
