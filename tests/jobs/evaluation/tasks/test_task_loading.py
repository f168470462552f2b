"""Tasks by name: what is found, and what is said of a task that cannot be loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from jobs.evaluation.tasks.task_loading import load_tasks
from tests.docs.command_blocks import DOCS, command_blocks
from tests.jobs.evaluation.tasks.conftest import ANSWER, CHOICE, ROWS, WriteTask
from tuneyard.core.errors import ConfigError, DatasetError, MissingDependencyError

HUB_DATA: dict[str, Any] = {"dataset_path": "acme/faq", "dataset_name": "small", "dataset_kwargs": None}


def load(folder: Path, *names: str) -> list[Any]:
    tasks, _ = load_tasks(names, folder, download=False)
    return tasks


def test_tasks_groups_and_tags_are_found_in_a_folder(write_task: WriteTask) -> None:
    write_task(CHOICE)
    folder = write_task(ANSWER, tag="ours")
    (folder / "group.yaml").write_text("group: our_group\ntask: [our_choice, our_answer]\n")
    task, tag = load(folder, "our_choice", "ours")
    assert [part.task_name for part in (*task.parts, *tag.parts)] == ["our_choice", "our_answer"]
    assert (task.kinds, tag.kinds) == ({False}, {True})
    (group,) = load(folder, "our_group")
    assert [part.name for part in group.parts] == ["our_group"]
    assert {task.task_name for task in group.tasks} == {"our_choice", "our_answer"}
    with pytest.raises(ConfigError, match="our_choice is in both our_choice and our_group"):
        load(folder, "our_choice", "our_group")


def test_the_task_that_the_guide_shows_is_loaded(tmp_path: Path) -> None:
    blocks = command_blocks((DOCS / "evals.md").read_text("utf-8"), "evals.md")
    (shown,) = [block.text for block in blocks if block.text.startswith("task: acme_faq")]
    rows = tmp_path / "faq.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert "/home/me/acme/faq.jsonl" in shown
    (tmp_path / "acme_faq.yaml").write_text(shown.replace("/home/me/acme/faq.jsonl", str(rows)))
    (named,) = load(tmp_path, "acme_faq")
    (task,) = named.tasks
    assert task.doc_to_text(task.eval_docs[0]) == "Question: What does E47 mean?\nAnswer:"


def test_an_unknown_name_is_answered_with_close_ones(write_task: WriteTask) -> None:
    folder = write_task(CHOICE)
    (folder / "broken.yaml").write_text("task: [")
    with pytest.raises(ConfigError) as found:
        load(folder, "our_choise")
    assert "--tasks our_choise: there is no such task. Did you mean our_choice" in str(found.value)
    assert f"{folder} defines our_choice; files that are not named *.yaml or cannot be read" in str(found.value)
    with pytest.raises(ConfigError, match=r"--tasks arc_eazy: there is no such task\. Did you mean arc_easy"):
        load_tasks(["arc_eazy"], None, download=False)
    with pytest.raises(ConfigError, match="no such folder"):
        load(folder / "missing", "our_choice")


def test_a_dataset_that_is_in_the_cache_is_read_from_it(write_task: WriteTask, datasets_cache: Path) -> None:
    folder = write_task(CHOICE, **HUB_DATA)
    rows = folder / "rows.jsonl"
    datasets.load_dataset("json", data_files={"test": str(rows)})
    (made,) = datasets_cache.glob("json/*/*/*/json-test.arrow")
    cached = datasets_cache / "acme___faq" / "small" / "0.0.0" / "0123456789abcdef"
    cached.mkdir(parents=True)
    shutil.copy(made, cached / "faq-test.arrow")
    info = json.loads((made.parent / "dataset_info.json").read_text())
    info |= {"builder_name": "faq", "dataset_name": "faq", "config_name": "small"}
    (cached / "dataset_info.json").write_text(json.dumps(info))
    (named,) = load(folder, "our_choice")
    assert [row["question"] for row in named.tasks[0].eval_docs] == [row["question"] for row in ROWS]
    write_task(CHOICE, **HUB_DATA | {"dataset_name": "large"})
    with pytest.raises(DatasetError, match=r"its dataset acme/faq \(large\) is not on this machine"):
        load(folder, "our_choice")


def test_a_dataset_that_is_not_at_hand_is_named_with_the_way_to_bring_it(
    write_task: WriteTask, datasets_cache: Path
) -> None:
    folder = write_task(CHOICE, **HUB_DATA)
    (folder / "group.yaml").write_text("group: our_group\ntask: [our_choice]\n")
    for name in ("our_choice", "our_group"):
        with pytest.raises(DatasetError) as found:
            load(folder, name)
        message = str(found.value)
        assert "The task our_choice: its dataset acme/faq (small) is not on this machine" in message
        assert f"in the datasets cache, {datasets_cache}. --download fetches it" in message
        assert "`datasets.load_dataset('acme/faq', 'small')`" in message
        assert "copy acme___faq from its datasets cache" in message


def test_files_that_are_missing_are_named_with_the_field(write_task: WriteTask) -> None:
    folder = write_task(CHOICE, dataset_kwargs={"data_files": {"test": "nowhere.jsonl"}})
    with pytest.raises(DatasetError) as found:
        load(folder, "our_choice")
    assert "nowhere.jsonl" in str(found.value)
    assert f"Correct dataset_kwargs.data_files in {folder / 'our_choice.yaml'}" in str(found.value)


def test_a_broken_task_is_named_with_its_file_and_reason(write_task: WriteTask) -> None:
    folder = write_task(CHOICE, test_split="validation")
    with pytest.raises(ConfigError, match=r"The task our_choice \(.*our_choice.yaml\) cannot be loaded: KeyError"):
        load(folder, "our_choice")
    (folder / "needs.py").write_text("import a_package_that_is_missing\ndef text(row): return ''\n")
    text = (folder / "our_choice.yaml").read_text()
    (folder / "our_choice.yaml").write_text(text.replace('"answer"', "!function needs.text"))
    with pytest.raises(MissingDependencyError, match="needs the package a_package_that_is_missing: pip install"):
        load(folder, "our_choice")


def test_a_group_without_tasks_is_refused(write_task: WriteTask) -> None:
    """lm_eval takes a single name for no name at all."""
    folder = write_task(CHOICE)
    (folder / "group.yaml").write_text("group: our_group\ntask: our_choice\n")
    with pytest.raises(
        ConfigError, match=r"our_group: the group has no tasks\. `task` in .*group\.yaml must be a list"
    ):
        load(folder, "our_group")


def test_tasks_that_cannot_be_asked_here_are_refused(write_task: WriteTask) -> None:
    with pytest.raises(ConfigError, match="our_answer runs code that the model writes, and is not run here"):
        load(write_task(ANSWER, unsafe_code=True), "our_answer")
    with pytest.raises(ConfigError, match="our_answer has images or audio"):
        load(write_task(ANSWER, doc_to_image="{{question}}"), "our_answer")


@pytest.fixture
def modules_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where `evaluate` keeps the metrics that it has fetched."""
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path / "modules")
    # `evaluate` adds the folder to the path, and imports the metrics from a package of a fixed name.
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "evaluate_modules"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path / "modules"


def write_code(folder: Path, task: str, code: str, field: str, function: str) -> None:
    """Gives a task a Python file, and a field that names its function."""
    (folder / f"{task}_code.py").write_text(code)
    path = folder / f"{task}.yaml"
    fields = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in json.loads(path.read_text()).items())
    path.write_text(f"{{{fields}, {field}: !function {task}_code.{function}}}")


def test_a_metric_that_is_not_at_hand_is_named_before_anything_is_asked(
    write_task: WriteTask, modules_cache: Path
) -> None:
    folder = write_task(ANSWER, metric_list=[{"metric": "acme_f1", "aggregation": "mean", "higher_is_better": True}])
    with pytest.raises(DatasetError) as found:
        load(folder, "our_answer")
    assert "The task our_answer: its metric acme_f1 is neither one of lm_eval nor on this machine" in str(found.value)
    assert f"looked for in {modules_cache}/evaluate_modules/metrics. --download fetches it" in str(found.value)
    assert "`evaluate.load('acme_f1')`" in str(found.value)
    # Many of lm_eval's own tasks load their metric only in the function that scores.
    code = "def score(row, answers):\n    import evaluate\n    return {'acc': evaluate.load('acme_f1').compute}\n"
    write_code(write_task(ANSWER), "our_answer", code, "process_results", "score")
    with pytest.raises(DatasetError, match="its metric acme_f1 is neither one of lm_eval nor on this machine"):
        load(folder, "our_answer")


def test_a_metric_that_was_fetched_before_is_read_from_its_folder(write_task: WriteTask, modules_cache: Path) -> None:
    metric = modules_cache / "evaluate_modules" / "metrics" / "evaluate-metric--acme_same" / ("0" * 64) / "acme_same.py"
    metric.parent.mkdir(parents=True)
    metric.write_text(
        "import datasets, evaluate\n"
        "class Same(evaluate.Metric):\n"
        "    def _info(self):\n"
        "        text = datasets.Value('string')\n"
        "        features = datasets.Features({'predictions': text, 'references': text})\n"
        "        return evaluate.MetricInfo(description='', citation='', features=features)\n"
        "    def _compute(self, predictions, references):\n"
        "        return {'acme_same': float(predictions == references)}\n"
    )
    entry = {"metric": "acme_same", "aggregation": "mean", "higher_is_better": True}
    (named,) = load(write_task(ANSWER, metric_list=[entry]), "our_answer")
    (task,) = named.tasks
    assert task.process_results(task.eval_docs[0], [ROWS[0]["choices"][0]]) == {"acme_same": 1.0}


def test_what_the_code_of_a_task_fetches_is_refused_even_if_it_hides_that(write_task: WriteTask) -> None:
    code = (
        "import urllib.request\n"
        "try:\n"
        "    urllib.request.urlopen('http://data.acme.example/words.txt', timeout=5)\n"
        "except OSError:\n"
        "    print('no words')\n"
        "def text(row):\n"
        "    return row['question']\n"
    )
    folder = write_task(CHOICE)
    write_code(folder, "our_choice", code, "process_docs", "text")
    with pytest.raises(DatasetError, match=r"its code tries to reach data\.acme\.example.*--download allows"):
        load(folder, "our_choice")


def test_an_empty_answer_that_cannot_be_scored_does_not_refuse_a_task(write_task: WriteTask) -> None:
    code = "def score(row, answers):\n    return {'acc': float(answers[0][0] == 'T')}\n"
    folder = write_task(ANSWER)
    write_code(folder, "our_answer", code, "process_results", "score")
    (named,) = load(folder, "our_answer")
    assert named.kinds == {True}


def test_nothing_is_fetched_unless_it_is_asked_for(tiny_oss: Path, write_task: WriteTask, tmp_path: Path) -> None:
    """In a process of its own, which says when it looks for a server."""
    folder = write_task(CHOICE, **HUB_DATA)
    code = (
        "import socket, sys, time\n"
        "def look_up(*_, **__):\n"
        "    print('it looks for a server', file=sys.stderr)\n"
        "    raise socket.gaierror('no network')\n"
        "socket.getaddrinfo = look_up\n"
        "time.sleep = lambda _: None\n"  # between the Hub's retries
        "from jobs.evaluate import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    write_task(ANSWER, metric_list=[{"metric": "rouge", "aggregation": "mean", "higher_is_better": True}])
    arguments = ["--task-folder", str(folder), str(tiny_oss)]
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def run(task: str, *more: str) -> str:
        command = [sys.executable, "-W", "ignore", "-c", code, "--tasks", task, *arguments, *more]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 1, ended.stdout
        return ended.stderr

    for task, message in (
        ("our_choice", "is not on this machine"),
        ("our_answer", "its metric rouge is neither one of"),
    ):
        refused = run(task)
        assert message in refused
        assert "Traceback" not in refused
        assert "it looks for a server" not in refused
    fetched = run("our_choice", "--download")
    assert "it looks for a server" in fetched
    assert "its dataset acme/faq (small) cannot be fetched from the Hugging Face Hub" in fetched
