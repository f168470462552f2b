"""Evals and runs through the unmodified SDK: rows of files and requests, sampled and graded, read back in pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.serve_apps.platform_app.evals.conftest import write
from tests.serve_apps.platform_app.evals.eval_server import EvalServer
from tuneyard.storage.sql.location import SqlLocation

TICKETS = [
    {"ticket_text": "My monitor wont turn on", "correct_label": "Hardware"},
    {"ticket_text": "I'm in vim and I cant quit", "correct_label": "Software"},
    {"ticket_text": "Best restaurants in Cleveland?", "correct_label": "Hardware"},
]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"ticket_text": {"type": "string"}, "correct_label": {"type": "string"}},
    "required": ["ticket_text", "correct_label"],
}
MATCH: dict[str, Any] = {
    "type": "string_check",
    "name": "Match output to human label",
    "input": "{{ sample.output_text }}",
    "operation": "eq",
    "reference": "{{ item.correct_label }}",
}
PROMPT: dict[str, Any] = {
    "type": "template",
    "template": [
        {"role": "developer", "content": "Categorize the ticket."},
        {"role": "user", "content": {"type": "input_text", "text": "{{ item.ticket_text }}"}},
    ],
}


async def create_eval(client: openai.AsyncOpenAI, *criteria: dict[str, Any], **more: Any) -> Any:
    config = {"type": "custom", "item_schema": SCHEMA, "include_sample_schema": True}
    return await client.evals.create(
        name="Tickets", data_source_config=config, testing_criteria=list(criteria or (MATCH,)), **more
    )


def inline(*items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "file_content", "content": [{"item": item} for item in items or TICKETS]}


def completions(**more: Any) -> dict[str, Any]:
    return {"type": "completions", "model": "writer", "input_messages": PROMPT, "source": inline()} | more


async def finished_run(server: EvalServer, client: openai.AsyncOpenAI, eval_id: str, source: Any) -> Any:
    run = await client.evals.runs.create(eval_id, name="first", data_source=source)
    assert run.status == "queued"
    await server.work()
    return await client.evals.runs.retrieve(run.id, eval_id=eval_id)


async def test_rows_of_an_uploaded_file_are_sampled_and_graded(server: EvalServer) -> None:
    client = server.client()
    lines = "".join(json.dumps({"item": item}) + "\n" for item in TICKETS).encode()
    file = await client.files.create(file=("tickets.jsonl", lines), purpose="evals")
    parent = await create_eval(client, metadata={"team": "support"})
    source = completions(source={"type": "file_id", "id": file.id}, sampling_params={"temperature": 0, "seed": 42})
    run = await finished_run(server, client, parent.id, source)
    assert (run.status, run.error, run.model, run.name) == ("completed", None, "writer", "first")
    counts = run.result_counts
    assert (counts.total, counts.passed, counts.failed, counts.errored) == (3, 2, 1, 0)
    (usage,) = run.per_model_usage
    assert (usage.run_model_name, usage.invocation_count) == ("writer", 3)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    (result,) = run.per_testing_criteria_results
    assert (result.testing_criteria, result.passed, result.failed) == (parent.testing_criteria[0].id, 2, 1)
    assert run.report_url == f"http://test/v1/evals/{parent.id}/runs/{run.id}"
    items = [item async for item in client.evals.runs.output_items.list(run.id, eval_id=parent.id, limit=2)]
    assert [item.datasource_item for item in items] == TICKETS
    assert [(item.datasource_item_id, item.status) for item in items] == [(0, "pass"), (1, "pass"), (2, "fail")]
    sample = items[0].sample
    assert [(m.role, m.content) for m in sample.input] == [
        ("developer", "Categorize the ticket."),
        ("user", "My monitor wont turn on"),
    ]
    assert [m.content for m in sample.output] == ["Hardware"]
    assert (sample.finish_reason, sample.model, sample.seed, sample.temperature) == ("stop", "writer", 42, 0)
    (graded,) = items[0].results
    assert (graded.name, graded.passed, graded.score) == (parent.testing_criteria[0].id, True, 1.0)
    one = await client.evals.runs.output_items.retrieve(items[2].id, eval_id=parent.id, run_id=run.id)
    assert one.to_dict() == items[2].to_dict()
    failed = await client.evals.runs.output_items.list(run.id, eval_id=parent.id, status="fail")
    assert [item.id for item in failed.data] == [items[2].id]


async def test_a_file_is_held_until_the_run_has_ended(server: EvalServer) -> None:
    client = server.client()
    file = await client.files.create(file=("t.jsonl", json.dumps({"item": TICKETS[0]}).encode()), purpose="evals")
    parent = await create_eval(client)
    await client.evals.runs.create(parent.id, data_source=completions(source={"type": "file_id", "id": file.id}))
    with pytest.raises(openai.BadRequestError, match="is used by evalrun_"):
        await client.files.delete(file.id)
    await server.work()
    assert (await client.files.delete(file.id)).deleted


async def test_rows_with_answers_are_graded_without_a_model(server: EvalServer) -> None:
    client = server.client()
    similar = MATCH | {"type": "text_similarity", "evaluation_metric": "fuzzy_match", "pass_threshold": 0.8}
    del similar["operation"]
    parent = await create_eval(client, MATCH, similar)
    rows = [
        {"item": TICKETS[0], "sample": {"output_text": "Hardware"}},
        {"item": TICKETS[1], "sample": {"output_text": "software!"}},
    ]
    run = await finished_run(
        server, client, parent.id, {"type": "jsonl", "source": {"type": "file_content", "content": rows}}
    )
    assert (run.model, run.per_model_usage, run.result_counts.passed) == ("", [], 1)
    assert [(r.passed, r.failed) for r in run.per_testing_criteria_results] == [(1, 1), (2, 0)]
    items = (await client.evals.runs.output_items.list(run.id, eval_id=parent.id)).data
    assert [m.content for m in items[1].sample.output] == ["software!"]
    assert [result.score for result in items[1].results] == [0.0, 1.0]
    assert not server.engines["writer"].prompts


async def test_models_grade_with_scores_and_labels(server: EvalServer) -> None:
    client = server.client()
    question = [
        {"role": "system", "content": "You grade labels."},
        {"role": "user", "content": "Label {{ sample.output_text }} for {{ item.ticket_text }}"},
    ]
    score = {"type": "score_model", "name": "score", "model": "judge", "input": question, "range": [0, 1]}
    label = {
        "type": "label_model",
        "name": "label",
        "model": "judge",
        "input": question,
        "labels": ["good", "bad"],
        "passing_labels": ["good"],
    }
    parent = await create_eval(client, score | {"sampling_params": {"max_completions_tokens": 100}}, label)
    run = await finished_run(server, client, parent.id, completions())
    assert run.result_counts.passed == 1
    assert {u.run_model_name: u.invocation_count for u in run.per_model_usage} == {"writer": 3, "judge": 6}
    assert [(r.passed, r.failed) for r in run.per_testing_criteria_results] == [(1, 2), (1, 2)]
    items = (await client.evals.runs.output_items.list(run.id, eval_id=parent.id)).data
    by_score, by_label = items[0].results
    assert (by_score.score, by_score.passed, by_label.score, by_label.label) == (0.75, True, 1.0, "good")
    assert by_score.sample is not None
    assert json.loads(by_score.sample["output"][0]["content"])["result"] == 0.75
    prompt = next(p for p in server.engines["judge"].prompts if "## score" in p)
    assert "You grade labels.\n\n# Response Formats\n\n## score\n\n{" in prompt


async def test_an_unusable_grade_is_an_error_of_the_row_and_no_failed_criterion(server: EvalServer) -> None:
    client = server.client()
    question = [{"role": "user", "content": "{{ sample.output_text }}"}]
    parent = await create_eval(
        client, {"type": "score_model", "name": "score", "model": "writer", "input": question, "range": [0, 1]}
    )
    run = await finished_run(server, client, parent.id, completions(source=inline(TICKETS[0])))
    assert (run.status, run.result_counts.errored, run.result_counts.failed) == ("completed", 1, 0)
    assert [(r.passed, r.failed) for r in run.per_testing_criteria_results] == [(0, 0)]
    assert run.per_model_usage[0].invocation_count == 2
    (item,) = (await client.evals.runs.output_items.list(run.id, eval_id=parent.id)).data
    assert item.status == "error"
    assert "has no usable result: 'Other'" in item.results[0].error["message"]


async def test_a_prompt_may_be_in_the_row_and_a_variable_may_be_missing(server: EvalServer) -> None:
    client = server.client()
    parent = await client.evals.create(
        data_source_config={"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True},
        testing_criteria=[MATCH | {"reference": "{{ item.label }}"}],
    )
    rows = [
        {"chat": [{"role": "user", "content": "vim"}], "label": "Software"},
        {"chat": "vim", "label": "Software"},
        {"chat": [{"role": "user", "content": "vim"}]},
    ]
    reference = {"type": "item_reference", "item_reference": "item.chat"}
    run = await finished_run(
        server, client, parent.id, completions(source=inline(*rows), input_messages=reference, type="responses")
    )
    assert (run.result_counts.passed, run.result_counts.errored) == (1, 2)
    items = (await client.evals.runs.output_items.list(run.id, eval_id=parent.id)).data
    assert items[1].sample.error is not None
    assert "item.chat must be a list of messages" in items[1].sample.error.message
    assert "{{ item.label }} is not defined: item has chat." in items[2].results[0].error["message"]


async def test_sampling_parameters_of_both_routes_reach_the_model(server: EvalServer) -> None:
    client = server.client()
    parent = await create_eval(client)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    function = {"name": "look", "parameters": {"type": "object"}}
    for kind, form, tool in (
        ("completions", {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}},
         {"type": "function", "function": function}),
        ("responses", {"text": {"format": {"type": "json_schema", "name": "a", "schema": schema}}},
         {"type": "function"} | function),
    ):  # fmt: skip
        limits = {"max_completions_tokens": 50, "top_p": 0.9, "reasoning_effort": "high", "tools": [tool]}
        source = completions(type=kind, sampling_params=form | limits, source=inline(TICKETS[0]))
        run = await finished_run(server, client, parent.id, source)
        assert run.result_counts.errored == 0
        prompt = server.engines["writer"].prompts[-1]
        assert "Reasoning: high" in prompt
        assert "type look = " in prompt
        (item,) = (await client.evals.runs.output_items.list(run.id, eval_id=parent.id)).data
        assert (item.sample.max_completion_tokens, item.sample.top_p) == (50, 0.9)


async def test_lists_have_pages_order_and_filters(server: EvalServer) -> None:
    client = server.client()
    evals = [await create_eval(client) for _ in range(3)]
    assert [e.id async for e in client.evals.list(limit=2)] == [e.id for e in evals]
    assert [e.id async for e in client.evals.list(limit=2, order="desc")] == [e.id for e in reversed(evals)]
    updated = await client.evals.update(evals[0].id, name="Renamed", metadata={"k": "v"})
    assert (updated.name, updated.metadata, updated.testing_criteria) == (
        "Renamed",
        {"k": "v"},
        evals[0].testing_criteria,
    )
    by_update = [e.id async for e in client.evals.list(limit=1, order_by="updated_at", order="desc")]
    assert by_update == [evals[0].id, evals[2].id, evals[1].id]
    runs = [await client.evals.runs.create(evals[1].id, data_source=completions()) for _ in range(3)]
    assert [r.id async for r in client.evals.runs.list(evals[1].id, limit=2)] == [r.id for r in runs]
    canceled = await client.evals.runs.cancel(runs[1].id, eval_id=evals[1].id)
    assert canceled.status == "canceled"
    await server.work()
    assert [r.id for r in (await client.evals.runs.list(evals[1].id, status="canceled")).data] == [runs[1].id]
    with pytest.raises(openai.BadRequestError, match="has ended already, in the state 'completed'"):
        await client.evals.runs.cancel(runs[0].id, eval_id=evals[1].id)
    deleted = await client.evals.runs.delete(runs[0].id, eval_id=evals[1].id)
    assert (deleted.deleted, deleted.run_id, deleted.object) == (True, runs[0].id, "eval.run.deleted")
    gone = await client.evals.delete(evals[1].id)
    assert (gone.deleted, gone.eval_id, gone.object) == (True, evals[1].id, "eval.deleted")
    for call in (
        client.evals.retrieve(evals[1].id),
        client.evals.runs.list(evals[1].id),
        client.evals.runs.retrieve(runs[2].id, eval_id=evals[1].id),
        client.evals.runs.retrieve(runs[2].id, eval_id=evals[0].id),
        client.evals.retrieve("eval_\0"),
    ):
        with pytest.raises(openai.NotFoundError):
            await call


async def test_the_same_request_with_an_idempotency_key_creates_one_run(server: EvalServer) -> None:
    client = server.client()
    header = {"Idempotency-Key": "k1"}
    first, second = [await create_eval(client, extra_headers=header) for _ in range(2)]
    assert first == second
    runs = [await client.evals.runs.create(first.id, data_source=completions(), extra_headers=header) for _ in range(2)]
    assert runs[0].id == runs[1].id
    with pytest.raises(openai.BadRequestError, match="was sent before with another request"):
        await client.evals.runs.create(first.id, data_source=completions(model="judge"), extra_headers=header)


async def test_evals_and_runs_on_each_kind_of_database(
    sql_location: SqlLocation, tmp_path: Path, tiny_oss: Path
) -> None:
    server = EvalServer(tmp_path, tiny_oss, {"writer": write}, location=sql_location)
    client = server.client()
    parent = await create_eval(client)
    item = {**TICKETS[0], "note": "\0 é", "empty": None}
    run = await finished_run(server, client, parent.id, completions(source=inline(item)))
    assert (run.status, run.result_counts.passed) == ("completed", 1)
    items = (await client.evals.runs.output_items.list(run.id, eval_id=parent.id, order="desc", status="pass")).data
    assert (items[0].datasource_item["note"], items[0].datasource_item["empty"]) == ("\0 é", None)
    assert [e.id async for e in client.evals.list(order_by="updated_at")] == [parent.id]
    assert (await client.evals.delete(parent.id)).deleted
    await server.close()
