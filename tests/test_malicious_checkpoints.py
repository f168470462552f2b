"""Each malicious checkpoint is refused by every command that would load it, and runs nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.nemo.checkpoint_import import parse_source
from jobs.runs.preflight import prepare_run
from jobs.workers.local_base import with_local_base
from serve_apps.deployment.checked_model import check_model
from serve_apps.engines.engine_factory import create_engine
from tests.malicious_checkpoints import ATTACKS, CANARY, run_from
from tuneyard.checkpoints.adoption import adopt_checkpoint
from tuneyard.checkpoints.manifest_writer import write_manifest
from tuneyard.checkpoints.safety.checkpoint_safety import check_trained_safety
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.serve import ModelAppConfig
from tuneyard.core.errors import CheckpointError

DOORS: dict[str, Callable[[Path], object]] = {
    "check": validate_hf_checkpoint,
    "deploy": lambda folder: check_model(ModelAppConfig(model_id="m", checkpoint=str(folder))),
    "replica": lambda folder: create_engine(EngineConfig(), folder),
    "finetune": lambda folder: prepare_run(run_from(folder)),
    "worker": lambda folder: with_local_base(run_from(folder)),
    "NeMo import": lambda folder: parse_source(f"hf://{folder}"),
}
"""What loads a checkpoint that has a manifest, with every hash in it right."""


TRAINING_STATE = ("training_args.bin",)
"""Attacks by files that transformers' Trainer writes beside a checkpoint, and that an export does not read."""


WITHOUT_MANIFEST = ("pipe", "config without end")
"""Attacks beside which no manifest can be written: hashing a pipe would wait forever, and the config is no JSON."""


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CANARY, str(tmp_path / "canary"))
    return tmp_path / "canary"


@pytest.mark.parametrize("kind", list(ATTACKS))
def test_every_door_refuses_it(kind: str, tiny_oss_copy: Path, canary: Path) -> None:
    attack = ATTACKS[kind]
    (tiny_oss_copy / "manifest.json").unlink()
    attack.apply(tiny_oss_copy)
    refused = [refusal(lambda folder: adopt_checkpoint(folder, "m"), tiny_oss_copy)]
    assert not (tiny_oss_copy / "manifest.json").exists()
    if kind not in WITHOUT_MANIFEST:
        write_manifest(tiny_oss_copy, kind="base", name="m", version="1")
    refused += [refusal(load, tiny_oss_copy) for load in DOORS.values()]
    assert all("is not safe to load, so nothing of it was loaded" in message for message in refused)
    assert all(attack.refusal in message for message in refused), refused[0]
    assert len(set(refused)) == 1
    assert not canary.exists()


@pytest.mark.parametrize("kind", [kind for kind in ATTACKS if kind not in TRAINING_STATE])
def test_an_export_refuses_it_as_a_checkpoint_of_a_run(kind: str, tiny_oss_copy: Path) -> None:
    """A run's checkpoint may hold the pickles of the optimizer's state: an export does not read them."""
    (tiny_oss_copy / "optimizer.pt").write_bytes(b"\x80\x02")
    check_trained_safety(tiny_oss_copy)
    ATTACKS[kind].apply(tiny_oss_copy)
    assert ATTACKS[kind].refusal in refusal(check_trained_safety, tiny_oss_copy)


def refusal(load: Callable[[Path], object], folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    return str(caught.value)


def test_all_kinds_at_once_are_listed(tiny_oss_copy: Path) -> None:
    for kind, attack in ATTACKS.items():
        if "link" not in kind and "rope" not in kind and kind not in WITHOUT_MANIFEST:
            attack.apply(tiny_oss_copy)
    message = refusal(validate_hf_checkpoint, tiny_oss_copy)
    assert 20 < message.count("\n") <= 102


def test_what_is_published_and_what_we_write_pass(tiny_oss: Path, tmp_path: Path) -> None:
    """With the files that OpenAI publishes beside the weights, and links inside the folder."""
    folder = Path(shutil.copytree(tiny_oss, tmp_path / "folder"))
    (folder / "manifest.json").unlink()
    for name in ("LICENSE", "USAGE_POLICY", ".gitattributes", "chat_template.jinja"):
        (folder / name).write_text("text with – every “kind” of character: \x80", encoding="utf-8")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("LICENSE")
    adopt_checkpoint(folder, "m")
    for load in DOORS.values():
        load(folder)


def test_no_product_code_renders_a_chat_template() -> None:
    """A template of a checkpoint is a program in Jinja. It is carried along, for other programs.

    lm_eval's models have a method and an option of that name; jobs.evaluate's method renders with the codec.
    """
    for room in ("platform", "jobs", "serve_apps", "ui"):
        for path in Path(room).rglob("*.py"):
            assert ".apply_chat_template" not in path.read_text(encoding="utf-8"), path
