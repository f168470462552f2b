"""The one list of what makes a checkpoint folder unsafe to load. It reads no weights, so it takes milliseconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tuneyard.checkpoints.layout.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_config_problems, is_adapter
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.safety.config_fields import field_problems
from tuneyard.checkpoints.safety.file_kinds import file_problems
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import MAX_VALUE_CHARACTERS, count_of, listed, printable

TRAINING_STATE = re.compile(r"optimizer\.pt|scheduler\.pt|scaler\.pt|rng_state(_\d+)?\.pth|training_args\.bin")
"""Pickles that transformers' Trainer keeps beside the weights of a checkpoint. Only a resumed training reads them."""


def safety_problems(folder: Path) -> Iterator[str]:
    """Yields one message for each reason why loading the checkpoint could run code or read other files.

    Files that a loader needs and that are missing or broken are not reported here; see validate_hf_checkpoint.
    """
    yield from file_problems(folder)
    yield from field_problems(folder)


def check_safety(folder: Path) -> None:
    """Raises one CheckpointError that lists every problem of safety_problems. Call it before anything loads the folder.

    An adapter is refused as what it is: it holds no model that could be loaded. A folder that does not exist passes:
    whatever reads it next reports that.
    """
    folder = Path(folder)
    refuse_adapter(folder)
    _refuse(folder, list(safety_problems(folder)))


def refuse_adapter(folder: Path) -> None:
    """Raises CheckpointError if the folder holds an adapter, which is not a model: the message says how to make one."""
    if not is_adapter(folder):
        return
    base = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    fix = f"Merge it into its base: python -m jobs.export {folder}"
    if not (folder / "manifest.json").exists():
        fix = "Merge it into its base, with merge_and_unload of peft, and give the folder of the merged model."
    named = printable(base)[:MAX_VALUE_CHARACTERS] if isinstance(base, str) and base else "its base"
    raise CheckpointError(
        f"{folder} is an adapter, not a model: it holds only the changes of a finetuning to {named}, so "
        f"it cannot be loaded on its own. {fix}"
    )


def check_adapter_safety(folder: Path) -> None:
    """Like check_safety, for the folder of a published adapter."""
    _refuse(folder, list(_adapter_problems(folder, lambda name: name == ADAPTER_CONFIG)))


def check_trained_safety(folder: Path) -> None:
    """Like check_safety, for a checkpoint that a run of the transformers backend keeps: adapters, or a whole model.

    It may hold TRAINING_STATE, which an export does not read.
    """
    if is_adapter(folder):
        problems = _adapter_problems(folder, lambda name: name == ADAPTER_CONFIG or _is_training_state(name))
        _refuse(folder, list(problems))
    else:
        _refuse(folder, [*file_problems(folder, _is_training_state), *field_problems(folder)])


def _is_training_state(name: str) -> bool:
    return TRAINING_STATE.fullmatch(name) is not None


def _adapter_problems(folder: Path, expected: Callable[[str], bool]) -> Iterator[str]:
    yield from file_problems(folder, expected)
    yield from adapter_config_problems(read_json(folder / ADAPTER_CONFIG))
    # Without it, PEFT would read the pickle adapter_model.bin, or look on the Hub.
    if not (folder / ADAPTER_WEIGHTS).is_file():
        yield f"{ADAPTER_WEIGHTS} is missing. Copy or export the adapter again."


def _refuse(folder: Path, problems: list[str]) -> None:
    if problems:
        raise CheckpointError(
            f"{folder} is not safe to load, so nothing of it was loaded: "
            f"{count_of(len(problems), 'problem')}\n{listed(problems)}"
        )
