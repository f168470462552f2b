"""No secret is in what Ray shows of a job, wherever it stood; and the job's processes still get it."""

from __future__ import annotations

import importlib
import json
import os
import string
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.cluster.job_entrypoint import job_command
from tuneyard.cluster.job_secrets import hide_in_text, hide_secrets, holds_secret, pack_secrets, without_own_secrets
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.job_secrets import SECRETS_PACKAGE, load_job_secrets

SECRETS = st.text(string.ascii_letters + string.digits + "/+=_-", min_size=20, max_size=40).map(lambda s: f"x{s}x")
PLACES = (
    "s3://AKIAX:{}@bucket/chats.jsonl",
    "s3://{}@bucket/chats",
    "s3://bucket/x?region=eu&secret_key={}&scheme=http",
    "s3://bucket/x?access_key={}",
    "s3://bucket/x?session_token={}",
    "abfss://chats@account.dfs.core.windows.net/x?sig={}",
    "https://user:{}@mlflow.example:5000",
    "postgresql://tuneyard:{}@db/tuneyard",
    "DefaultEndpointsProtocol=https;AccountKey={};EndpointSuffix=x",
    "run.api_key={}",
    "data.password='{}'",
    '{{"data": {{"train": "s3://k:{}@b/x"}}, "token": "{}"}}',
)
HARMLESS = (
    "training.max_tokens=512",
    "data.problems.special_token_text=ignore",
    "data.problems={duplicate_key: warning}",
    "run.storage=abfss://chats@account.dfs.core.windows.net/runs",
    "model.base=s3://bucket/base?region=eu-west-1&endpoint_override=localhost:9000",
    '{"run": {"name": "keys", "model_name": "tokens"}}',
    "http://mlflow:5000",
)


def url_safe(place: str, secret: str) -> str:
    is_url = "://" in place and not place.startswith("{")
    return place.format(quote(secret, safe="") if is_url else secret, secret)


@given(secret=SECRETS, place=st.sampled_from(PLACES), before=st.sampled_from(["", "a=b ", '{"x": 1} ']))
def test_a_secret_is_replaced_wherever_it_stands(secret: str, place: str, before: str) -> None:
    text = before + url_safe(place, secret)
    hidden = hide_in_text(text)
    assert secret not in hidden
    assert quote(secret, safe="") not in hidden
    assert "(set)" in hidden
    assert hidden.startswith(before)
    assert hide_in_text(hidden) == hidden
    assert holds_secret(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert hide_in_text(text) == text


@pytest.mark.parametrize("key", ["AKIA" + "A1" * 8, "hf_" + "a" * 34, "sk-proj-" + "b" * 40])
def test_keys_of_known_forms_are_replaced_anywhere(key: str) -> None:
    assert hide_in_text(f"run.name=x {key}, y") == "run.name=x (set), y"


NAMES = st.sampled_from(
    ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "WANDB_API_KEY"]
)


@given(variables=st.dictionaries(NAMES, SECRETS), url_secret=SECRETS, place=st.sampled_from(PLACES))
def test_the_runtime_env_of_a_job_holds_no_secret_and_its_package_holds_all(
    tmp_path_factory: pytest.TempPathFactory, variables: dict[str, str], url_secret: str, place: str
) -> None:
    folder = tmp_path_factory.mktemp("package")
    url = url_safe(place, url_secret)
    plain = {"TUNEYARD_HOME": "/mnt/tuneyard"}
    environment = {
        "working_dir": "/x",
        "py_modules": ["/y"],
        "env_vars": {**plain, **variables, "MLFLOW_TRACKING_URI": url},
    }
    packed = pack_secrets(environment, folder)
    for shown in (packed, hide_secrets(environment)):
        text = json.dumps(shown)
        assert not [secret for secret in (url_secret, url, *variables.values()) if secret in text]
    assert packed["env_vars"] == plain
    content = json.loads((folder / SECRETS_PACKAGE / "secrets.json").read_text())
    assert content == variables | {"MLFLOW_TRACKING_URI": url}


def test_processes_of_the_job_set_the_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"py_modules": [], "env_vars": {"TUNEYARD_TEST_TOKEN": "t0p"}}
    packed = pack_secrets(environment, tmp_path)
    monkeypatch.delenv("TUNEYARD_TEST_TOKEN", raising=False)
    load_job_secrets()  # there is no package yet
    assert "TUNEYARD_TEST_TOKEN" not in os.environ
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    module, _, function = packed["worker_process_setup_hook"].rpartition(".")
    getattr(importlib.import_module(module), function)()
    assert os.environ["TUNEYARD_TEST_TOKEN"] == "t0p"
    monkeypatch.delenv("TUNEYARD_TEST_TOKEN")
    sys.modules.pop(SECRETS_PACKAGE, None)


def test_a_job_that_a_process_submits_does_not_get_the_package_of_its_own_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its variables would come first: a fine-tuning job got the config of the deployment that had begun it."""
    uploads = ["gcs://_ray_pkg_aa11.zip", "gcs://_ray_pkg_bb22.zip"]
    assert without_own_secrets(uploads) == uploads
    unpacked = tmp_path / "py_modules_files" / "_ray_pkg_bb22"
    unpacked.mkdir(parents=True)
    pack_secrets({"env_vars": {"TUNEYARD_TEST_TOKEN": "t0p"}}, unpacked)
    monkeypatch.syspath_prepend(str(unpacked))
    importlib.invalidate_caches()
    assert without_own_secrets(uploads) == uploads[:1]


def test_an_environment_without_secrets_stays_as_it_is(tmp_path: Path) -> None:
    environment = {"py_modules": ["/y"], "env_vars": {"TUNEYARD_HOME": "/mnt"}}
    assert pack_secrets(environment, tmp_path) == environment
    assert list(tmp_path.iterdir()) == []


def test_an_override_with_a_secret_does_not_become_part_of_the_command_line() -> None:
    path = Path("jobs/configs/demo_cpu.yaml")
    overrides = ["training.lora.rank=8", "run.name=AKIA" + "B2" * 8]
    config = load_config(FinetuneConfig, path, overrides)
    command, variables = job_command("jobs.finetune", path, config, overrides)
    assert command == "python -m jobs.finetune --config env:TUNEYARD_CONFIG"
    assert json.loads(variables["TUNEYARD_CONFIG"])["training"]["lora"]["rank"] == 8
