"""Config loading: overrides, absolute paths, and an error message for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import ConfigError

FINETUNE = "run: {name: r, model_name: m}\nmodel: {base: base}\ndata: {train: a.jsonl}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_relative_paths_are_resolved_against_the_config_file(tmp_path: Path, tuneyard_home: Path) -> None:
    path = write(tmp_path, FINETUNE.replace("base: base", "base: $TUNEYARD_HOME/models/x"))
    config = load_config(FinetuneConfig, path)
    assert config.data.train == str(tmp_path / "a.jsonl")
    assert config.model.folder == tuneyard_home / "models" / "x"
    assert config.run.folder == tuneyard_home


def test_a_loaded_config_round_trips_through_json(tmp_path: Path) -> None:
    config = load_config(FinetuneConfig, write(tmp_path, FINETUNE))
    assert FinetuneConfig.model_validate_json(config.model_dump_json()) == config


def test_overrides_are_typed_and_nested(tmp_path: Path) -> None:
    overrides = ["training.epochs=1.5", "training.lora.rank=4", "data.too_long=drop", "run.storage=./here"]
    config = load_config(FinetuneConfig, write(tmp_path, FINETUNE), overrides)
    assert (config.training.epochs, config.training.lora.rank, config.data.too_long) == (1.5, 4, "drop")
    assert config.run.folder == Path.cwd() / "here"


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (FINETUNE + "trainnig: {}\n", [], "trainnig: unknown field. Known here: codec, data, deploy, model"),
        (FINETUNE, ["training.lora=16"], r"training.lora: must be a section \(found 16\). Its fields: alpha, dropout"),
        (FINETUNE, ["training.lora.rnak=3"], "training.lora.rnak: unknown field. Known here: alpha, dropout"),
        (FINETUNE, ["training.epochs=none"], r"training.epochs: .*found 'none'"),
        (FINETUNE, ["training.epochs"], "expected field.name=value"),
        (FINETUNE, ["run.name.x=1"], "run.name.x: name is a str, which has no fields"),
        (FINETUNE + "x: [1]\n", ["x.1=2"], "x.1: x is a list with 1 item. Write x.0 for the first one"),
        (FINETUNE, ["training.early_stopping_patience=2"], "early_stopping_patience=2 needs data.heldout"),
        (FINETUNE, ["data.heldout=./a.jsonl", "data.train=./a.jsonl"], "are the same file"),
        ("- a\n- b\n", [], "must be a mapping of fields; found a list"),
        ("a: [", [], "not valid YAML"),
        ("", [], "3 problems"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(FinetuneConfig, write(tmp_path, text), overrides)


def test_a_refused_value_with_a_password_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"database\.url: String should match pattern") as error:
        load_config(ServeConfig, write(tmp_path, "models: []\n"), ["database.url=mysql://u:hunter2@db/x"])
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "override",
    [
        "database.url postgresql://u:hunter2@db/x",
        "database..url=hunter2",
        "database.url=[hunter2",
        "models.7.model_id=hunter2",
        "database.url.host=x",
        "http.port.x=hunter2",
    ],
)
def test_an_override_that_is_wrong_is_named_without_values(tmp_path: Path, override: str) -> None:
    config = write(tmp_path, "models: [{}]\nhttp: {port: 1}\ndatabase: {url: 'postgresql://u:hunter2@db/x'}\n")
    with pytest.raises(ConfigError, match=f"^--set {override.partition(' ')[0].partition('=')[0]}") as error:
        load_config(ServeConfig, config, [override])
    assert "hunter2" not in str(error.value)


def test_a_missing_config_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such config file"):
        load_config(FinetuneConfig, tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "models: [{checkpoint: 's3://key:hush@bucket/x'}]",
        "models: [{model_id: m, checkpoint: ['s3://key:hush@bucket/x']}]",
        "models: [{model_id: m, checkpoint: /x}]\nhttp: {keys: {rate_limits_store: {url: 'redis://:hush@host'}}}",
        "models: [{model_id: m, checkpoint: /x}]\ndatabase: ['postgresql://u:hush@host/d']",
    ],
)
def test_a_secret_in_a_section_that_is_wrong_is_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="1 problem") as error:
        load_config(ServeConfig, write(tmp_path, text))
    assert "hush" not in str(error.value)
