"""`python -m jobs.evaluate --tasks`: checkpoints and served models, scored by lm_eval."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.evaluate import main
from serve_apps.engines.engine_factory import create_engine
from serve_apps.engines.scripted_engine import ScriptedEngine
from tests.harmony_text import encode_spelled_out
from tests.integration.served_api import ServedApi
from tests.jobs.evaluation.tasks.conftest import ANSWER, CHOICE, PERPLEXITY, ROWS, WriteTask
from tuneyard.configs.engine import EngineConfig
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings


def evaluate(folder: Path, *arguments: object) -> list[dict[str, Any]]:
    """Runs the command, which must succeed, and returns what it writes with --json."""
    result = folder / "scores.json"
    assert main([*map(str, arguments), "--task-folder", str(folder), "--json", str(result)]) == 0
    scores: list[dict[str, Any]] = json.loads(result.read_text())
    return scores


@pytest.fixture(autouse=True)
def without_environment_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm_eval describes the machine by running a dozen programs, which takes seconds; nothing of it is used."""
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda _: None)


@pytest.fixture(autouse=True)
def without_second_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the index that loaded the tasks, lm_eval would read its 14,000 files again for each model and form."""
    monkeypatch.setattr("lm_eval.evaluator.TaskManager", None)


@pytest.fixture(scope="module")
def model_api(tiny_oss: Path) -> Iterator[ServedApi]:
    """The tiny model in the transformers engine."""
    served = ServedApi(
        create_engine(EngineConfig(kv_cache_tokens=4096), tiny_oss),
        HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings()),
    )
    yield served
    served.stop()


def test_a_checkpoint_has_the_scores_of_the_served_model(
    write_task: WriteTask, model_api: ServedApi, tiny_oss: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_task(CHOICE)
    write_task(PERPLEXITY)
    folder = write_task(ANSWER)
    (folder / "group.yaml").write_text(
        "group: our_group\ntask: [our_choice]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )
    models = ("--model", f"tiny={model_api.root}/v1", "--tokenizer", tiny_oss, tiny_oss)
    served, loaded = evaluate(folder, "--tasks", "our_group,our_answer,our_perplexity", "--as-text", *models)
    assert (served["model"], loaded["model"]) == ("tiny", str(tiny_oss))
    assert [task["task"] for task in loaded["tasks"]] == ["our_choice", "our_answer", "our_perplexity", "our_group"]
    for over_http, in_process in zip(served["tasks"], loaded["tasks"], strict=True):
        assert over_http["metrics"] == pytest.approx(in_process["metrics"], rel=1e-4)
        assert (over_http["form"], over_http["rows"]) == ("text", len(ROWS))
    pairs = list(zip(served["tasks"][0]["samples"], loaded["tasks"][0]["samples"], strict=True))
    for over_http, in_process in pairs:
        assert [r[0][0] for r in over_http["resps"]] == pytest.approx([r[0][0] for r in in_process["resps"]], abs=1e-3)
    best = [max(range(len(s["resps"])), key=lambda choice: s["resps"][choice][0][0]) for _, s in pairs]
    right = sum(choice == row["answer"] for choice, row in zip(best, ROWS, strict=True))
    assert loaded["tasks"][0]["metrics"]["acc,none"] == pytest.approx(right / len(ROWS))
    assert loaded["tasks"][3]["metrics"]["acc,none"] == pytest.approx(right / len(ROWS))
    # A random model knows nothing of the bytes that follow, or less.
    assert loaded["tasks"][2]["metrics"]["bits_per_byte,none"] > 1
    texts = [[sample["resps"] for sample in model["tasks"][1]["samples"]] for model in (served, loaded)]
    assert texts[0] == texts[1]
    assert f"our_choice      text      4     acc            {right / len(ROWS):.4f} ± " in capsys.readouterr().out


def test_a_checkpoint_answers_chats_as_the_served_model_does(
    write_task: WriteTask, model_api: ServedApi, tiny_oss: Path
) -> None:
    folder = write_task(ANSWER)
    served, loaded = evaluate(folder, "--tasks", "our_answer", "--model", f"tiny={model_api.root}/v1", tiny_oss)
    answers = [[sample["resps"][0][0] for sample in model["tasks"][0]["samples"]] for model in (served, loaded)]
    assert answers[0] == answers[1]
    assert any(answers[0])


def test_answers_are_asked_as_chats(write_task: WriteTask, tiny_oss: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reasoning is not part of an answer, and an answer that is only reasoning is empty."""
    folder = write_task(ANSWER)
    thought = "<|channel|>analysis<|message|>Nothing\n\nmore<|end|>"
    replies = [
        f"{thought}<|start|>assistant<|channel|>final<|message|>The filter is dirty<|return|>",
        thought.removesuffix("<|end|>"),
    ]
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    for reply, score, empty in zip(replies, (1 / 2, 0.0), (0, 2), strict=True):
        served = ServedApi(ScriptedEngine([encode_spelled_out(tiny_oss, reply)]), codec)
        try:
            arguments = ("--tasks", "our_answer", "--model", f"tiny={served.root}/v1", "--limit", 2)
            (scores,) = evaluate(folder, *arguments, "--max-tokens", 64)
        finally:
            served.stop()
        (task,) = scores["tasks"]
        assert (task["form"], task["rows"], task["empty_answers"]) == ("chat", 2, empty)
        assert [sample["doc_id"] for sample in task["samples"]] == [0, 2]
        assert task["metrics"]["exact_match,none"] == score
        assert ("tiny: 2 of 2 answers to our_answer are empty." in capsys.readouterr().out) == bool(empty)


def test_solved_examples_come_before_the_question(write_task: WriteTask, tiny_oss: Path) -> None:
    folder = write_task(CHOICE, fewshot_split="test")
    (scores,) = evaluate(folder, "--tasks", "our_choice", "--fewshot", 1, "--limit", 1, tiny_oss)
    (task,) = scores["tasks"]
    assert task["fewshot"] == 1
    assert task["samples"][0]["arguments"][0][0].count("Answer:") == 2


def test_a_task_without_examples_stays_so_and_that_is_said(
    write_task: WriteTask, tiny_oss: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_task(CHOICE, fewshot_split="test", num_fewshot=0)
    (scores,) = evaluate(folder, "--tasks", "our_choice", "--fewshot", 1, "--limit", 1, tiny_oss)
    assert scores["tasks"][0]["fewshot"] == 0
    assert (
        "--fewshot 1 does not count for our_choice: the task's own file says num_fewshot: 0" in capsys.readouterr().out
    )


class Gate:
    """ASGI middleware: notes the bodies of chat requests, and calls `refuse` for each after the first."""

    def __init__(self, refuse: Callable[[], int | None]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self._refuse = refuse

    def __call__(self, app: Any) -> Any:
        async def gated(scope: Any, receive: Any, send: Any) -> None:
            if not scope.get("path", "").endswith("/chat/completions"):
                await app(scope, receive, send)
                return
            message = await receive()
            assert not message["more_body"]
            self.bodies.append(json.loads(message["body"]))
            status = self._refuse() if len(self.bodies) > 1 else None
            if status is None:
                waiting = [message]

                async def receive_again() -> Any:
                    return waiting.pop() if waiting else await receive()

                await app(scope, receive_again, send)
                return
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b'{"error": {"message": "no more chats today"}}'})

        return gated


@contextlib.contextmanager
def serving(tiny_oss: Path, gate: Gate) -> Iterator[str]:
    """The base URL of the tiny model behind a gate."""
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    served = ServedApi(create_engine(EngineConfig(kv_cache_tokens=4096), tiny_oss), codec, middleware=gate)
    try:
        yield f"{served.root}/v1"
    finally:
        served.stop()


@pytest.mark.parametrize(
    ("options", "given", "sent"),
    [
        ({"max_new_tokens": 9, "num_beams": 1, "do_sample": False}, (), 9),
        ({"max_tokens": 9}, ("--max-tokens", 5), 5),
        (None, (), 1024),
    ],
)
def test_a_served_model_is_asked_with_one_limit(
    write_task: WriteTask, tiny_oss: Path, options: dict[str, Any] | None, given: tuple[object, ...], sent: int
) -> None:
    folder = write_task(ANSWER, generation_kwargs=options)
    gate = Gate(lambda: None)
    reply = "<|channel|>final<|message|>two<|return|>"
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    served = ServedApi(ScriptedEngine([encode_spelled_out(tiny_oss, reply)]), codec, middleware=gate)
    try:
        evaluate(folder, "--tasks", "our_answer", "--model", f"tiny={served.root}/v1", "--limit", 2, *given)
    finally:
        served.stop()
    first, *asked = gate.bodies
    assert first["max_tokens"] == 1
    assert [body["max_tokens"] for body in asked] == [sent, sent]


def test_what_is_finished_is_kept_when_a_model_fails_or_is_interrupted(
    write_task: WriteTask, tiny_oss: Path, model_api: ServedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    write_task(CHOICE)
    folder = write_task(ANSWER)
    result = folder / "scores.json"

    ctrl_c = [signal.SIGINT]  # once: two requests are in flight, and a second signal would end the tests

    def interrupt() -> int:
        if ctrl_c:
            os.kill(os.getpid(), ctrl_c.pop())
        return 503

    for refuse, code, message in (
        (lambda: 400, 1, "refused a request: 400 - no more chats today"),
        (interrupt, 130, "Interrupted."),
    ):
        with serving(tiny_oss, Gate(refuse)) as url:
            models = ("--model", f"tiny={model_api.root}/v1", "--model", f"tiny={url}", "--tokenizer", str(tiny_oss))
            options = ("--limit", "2", "--task-folder", str(folder), "--json", str(result))
            assert main(["--tasks", "our_choice,our_answer", *models, *options]) == code
        output = capsys.readouterr()
        assert message in output.err
        assert "Traceback" not in output.err
        first, second = json.loads(result.read_text())
        assert [task["task"] for task in first["tasks"]] == ["our_choice", "our_answer"]
        assert [task["task"] for task in second["tasks"]] == ["our_choice"]
        lines = [line.split() for line in output.out.splitlines() if line.startswith(("our_choice", "our_answer"))]
        assert [(line[0], line[-1] == "-") for line in lines][:2] == [("our_choice", False), ("our_answer", True)]
        result.unlink()


def test_what_is_missing_is_said_without_traceback(
    write_task: WriteTask, tiny_oss: Path, model_api: ServedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    write_task(CHOICE)
    write_task(ANSWER)
    folder = write_task(ANSWER, task="our_prefix", gen_prefix="It is")
    (folder / "group.yaml").write_text("group: our_group\ntask: [our_choice, our_answer]\n")
    served = ("--model", f"tiny={model_api.root}/v1")
    dead = ("--model", "tiny=http://127.0.0.1:9/v1")
    for arguments, message in [
        (
            ("our_choice", *served),
            "the texts are scored token by token, which needs the served model's tokenizer",
        ),
        (("our_choice", *dead, "--tokenizer", tiny_oss), "tiny at http://127.0.0.1:9/v1 does not answer"),
        (("our_answer", "--model", f"else={model_api.root}/v1"), "/v1 cannot be asked: Error code: 404"),
        (("our_group", tiny_oss), "some of its tasks compare generated answers, others score given texts"),
        (("our_prefix", tiny_oss), "begins the model's answer (gen_prefix), which a chat cannot"),
        (("our_answer", folder), "is not a finished checkpoint"),
        (("our_answer", tiny_oss, "--limit", 0), "--limit 0: must be at least 1"),
        (("our_answer", tiny_oss, "--json", folder / "none" / "scores.json"), "there is no folder"),
        ((",", tiny_oss), "--tasks: names no task"),
    ]:
        assert main(["--task-folder", str(folder), "--tasks", *map(str, arguments)]) == 1
        errors = capsys.readouterr().err
        assert message in errors
        assert "Traceback" not in errors


def test_an_engine_that_cannot_score_is_said_to(
    write_task: WriteTask, tiny_oss: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_task(CHOICE)
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    served = ServedApi(ScriptedEngine([[1]], options=frozenset()), codec)
    try:
        arguments = ["--model", f"tiny={served.root}/v1", "--tokenizer", str(tiny_oss)]
        assert main(["--tasks", "our_choice", "--task-folder", str(folder), *arguments]) == 1
    finally:
        served.stop()
    assert "cannot score texts: Error code: 400 - 'logprobs' is not supported" in capsys.readouterr().err


def test_without_the_package_its_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert main(["--tasks", "arc_easy", "/nowhere"]) == 1
    assert "pip install 'tuneyard[lm-eval]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --data FILE or --tasks"),
        (["--data", "f", "--tasks", "t"], "give either --data FILE or --tasks"),
        (["--tasks", "t"], "needs a CHECKPOINT or a served model"),
        (["--data", "f"], "--data needs a served model"),
        (["--data", "f", "--model", "m=http://h", "--download", "folder"], "CHECKPOINT, --download: not allowed with"),
        (["--tasks", "t", "folder", "--show", "0", "--set", "a=b"], "--set, --show: not allowed with --tasks"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err
