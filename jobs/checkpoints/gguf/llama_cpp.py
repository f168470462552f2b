"""What llama.cpp predicts from a GGUF file at the labelled places of rows. The only importer of xllamacpp in jobs."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from tuneyard.core.errors import CheckpointError, MissingDependencyError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.training_data.token_table import IGNORED_LABEL

try:
    import xllamacpp
except ModuleNotFoundError as e:
    if e.name != "xllamacpp":
        raise
    raise MissingDependencyError("Proving a GGUF file needs llama.cpp: pip install 'tuneyard[llama-cpp]'") from e

LIKELIEST = 64
"""Tokens whose log-probabilities are asked for at each place."""

SLOTS = 8
"""Rows that llama.cpp computes at the same time."""

_FORCED = 1e9
"""A logit bias that decides which token is sampled. The log-probabilities that llama.cpp reports are without it."""


@dataclass(frozen=True, slots=True)
class PlacePrediction:
    """llama.cpp's log-probabilities, in nats, for the token at one labelled place."""

    label: float
    """The log-probability of the label."""

    ids: np.ndarray
    """The likeliest tokens, the likeliest first."""

    log_probs: np.ndarray
    """The log-probabilities of `ids`, in the same order."""


def label_predictions(
    gguf: Path, rows: Sequence[dict[str, list[int]]], codec: HarmonyCodec, description: str
) -> list[list[PlacePrediction]]:
    """What llama.cpp predicts at the labelled places of each row of the token table, in order.

    One request for each place, with the tokens before it as the prompt: llama.cpp keeps them in its cache from one
    place to the next. `description` labels the progress bar, which counts places. Raises CheckpointError when llama.cpp
    cannot load the file, or refuses a request.
    """
    slots = min(SLOTS, len(rows))
    server = _start(gguf, slots, max(len(row["input_ids"]) for row in rows))
    # llama.cpp reports no log-probability of a token that is no whole character, so a whole one is sampled.
    (letter,) = codec.encode_text("a")
    request = {
        "n_predict": 1,
        "temperature": 0,
        "cache_prompt": True,
        "logit_bias": [[letter, _FORCED]],
    }
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for slot in range(slots):
        free.put(slot)
    places = sum(len(_places(row)) for row in rows)
    with tqdm(total=places, desc=description, unit="token", dynamic_ncols=True, disable=None) as bar:
        is_stopped = threading.Event()

        def predict_row(row: dict[str, list[int]]) -> list[PlacePrediction]:
            slot = free.get()
            predictions = []
            try:
                for place in _places(row):
                    if is_stopped.is_set():
                        break
                    slot_request = request | {"id_slot": slot, "prompt": row["input_ids"][:place]}
                    predictions.append(_predict(server, slot_request, row["labels"][place], codec.vocabulary_size))
                    bar.update()
            finally:
                free.put(slot)
            return predictions

        with ThreadPoolExecutor(slots) as pool:
            try:
                return list(pool.map(predict_row, rows))
            finally:
                # After Ctrl-C or an error, only the requests that llama.cpp is computing are waited for.
                is_stopped.set()


def llama_cpp_version() -> str:
    """The version of xllamacpp, which is that of its llama.cpp."""
    return str(xllamacpp.__version__)


def _start(gguf: Path, slots: int, longest: int) -> Any:
    """llama.cpp with the file loaded, and room for `slots` rows of `longest` tokens and the one that is predicted."""
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.n_parallel = slots
    params.n_ctx = slots * (-(-(longest + 1) // 256) * 256)
    # As many as torch takes. llama.cpp's own choice is all cores, also those of other processes.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
    # Otherwise the cache of layers with a sliding window forgets tokens, and a prompt is computed again.
    params.swa_full = True
    # So that the proof is about the file: by default, keys and values are rounded to F16.
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    # Without it, llama.cpp keeps up to 8 GiB of what the slots held before: here no row comes again.
    params.cache_ram_mib = 0
    # llama.cpp always serves HTTP too, on a free port of this machine: no other user may ask the model.
    params.api_keys = [secrets.token_urlsafe(32)]
    params.warmup = False
    params.verbosity = -1
    try:
        return xllamacpp.Server(params)
    except RuntimeError as e:
        raise CheckpointError(f"{gguf}: llama.cpp {llama_cpp_version()} cannot load the file ({e}).") from e


def _places(row: dict[str, list[int]]) -> list[int]:
    return [place for place, label in enumerate(row["labels"]) if place and label != IGNORED_LABEL]


def _predict(server: Any, request: dict[str, Any], label: int, vocabulary: int) -> PlacePrediction:
    listed = _likeliest(server, request | {"n_probs": min(LIKELIEST, vocabulary)})
    log_probs = listed if label in listed else _likeliest(server, request | {"n_probs": vocabulary})
    if label not in log_probs:
        raise CheckpointError(f"llama.cpp has no probability of the token {label}, which the vocabulary has.")
    return PlacePrediction(log_probs[label], np.array(list(listed)), np.array(list(listed.values())))


def _likeliest(server: Any, request: dict[str, Any]) -> dict[int, float]:
    """The log-probabilities of the n_probs likeliest tokens, by id, the likeliest first."""
    answer = server.handle_completions(request)
    if "error" in answer:
        raise CheckpointError(f"llama.cpp refuses a prompt of the proof: {answer['error'].get('message')}")
    (place,) = answer["choices"][0]["logprobs"]["content"]
    if any(token["logprob"] is None for token in place["top_logprobs"]):
        raise CheckpointError(
            "llama.cpp computes logits that are not numbers (NaN) from the file. Nothing was kept. If the checkpoint's "
            "own weights are right, they do not fit the type: try bf16 or f32."
        )
    return {int(token["id"]): float(token["logprob"]) for token in place["top_logprobs"]}
