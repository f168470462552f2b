"""Graders through the unmodified SDK: run by themselves, and combined. OpenAI's examples are in ../published."""

from __future__ import annotations

from typing import Any

from tests.serve_apps.platform_app.evals.eval_server import EvalServer

MULTI: dict[str, Any] = {
    "type": "multi",
    "name": "tool call",
    "graders": {
        "name": {
            "name": "name_grader", "type": "text_similarity", "input": "{{sample.output_json.name}}",
            "reference": "{{item.name}}", "evaluation_metric": "fuzzy_match", "pass_threshold": 0.9,
        },
        "email": {
            "name": "email_grader", "type": "string_check", "input": "{{sample.output_json.email}}",
            "reference": "{{item.email}}", "operation": "eq",
        },
    },
    "calculate_output": "(name + email) / 2",
}  # fmt: skip


async def test_criteria_have_an_id_and_rows_a_schema(server: EvalServer) -> None:
    item_schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    created = await server.client().evals.create(
        data_source_config={"type": "custom", "item_schema": item_schema, "include_sample_schema": True},
        testing_criteria=[
            {
                "type": "string_check",
                "name": "Match output to human label",
                "input": "{{sample.output_text}}",
                "operation": "eq",
                "reference": "{{item.label}}",
            }
        ],
    )
    assert created.to_dict()["data_source_config"]["schema"]["properties"] == {  # type: ignore[index]
        "item": item_schema,
        "sample": {"type": "object"},
    }
    assert created.testing_criteria[0].id.startswith("Match output to human label-")


async def test_a_grader_is_run_by_itself(server: EvalServer) -> None:
    graders = server.client().fine_tuning.alpha.graders
    score: Any = {
        "type": "score_model",
        "name": "Example score model grader",
        "input": [{"role": "user", "content": "Score {{sample.output_text}} for {{item.reference_answer}}"}],
        "model": "judge",
    }
    run = await graders.run(grader=score, item={"reference_answer": "Hardware"}, model_sample="a monitor")
    assert (run.reward, run.metadata.sampled_model_name) == (0.75, "judge")
    check: Any = {
        "type": "string_check", "name": "c", "input": "{{sample.output_text}}", "reference": "{{item.label}}",
        "operation": "eq",
    }  # fmt: skip
    undefined = await graders.run(grader=check, item={}, model_sample="x")
    assert (undefined.reward, undefined.metadata.errors.invalid_variable_error) == (0.0, True)


async def test_a_multi_grader_combines_scores_and_grades_rows(server: EvalServer) -> None:
    client = server.client()
    multi: Any = MULTI
    text = '{"name": "John Doe", "email": "john@example.com"}'
    person = {"name": "john doe", "email": "jd@example.com"}
    run = await client.fine_tuning.alpha.graders.run(grader=multi, item=person, model_sample=text)
    assert (run.reward, run.sub_rewards) == (0.5, {"name": 1.0, "email": 0.0})
    config: Any = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}
    parent = await client.evals.create(data_source_config=config, testing_criteria=[multi])
    rows = [
        {"item": person, "sample": {"output_json": {"name": "John Doe", "email": email}}}
        for email in ("jd@example.com", "other")
    ]
    source: Any = {"type": "jsonl", "source": {"type": "file_content", "content": rows}}
    created = await client.evals.runs.create(parent.id, data_source=source)
    await server.work()
    items = (await client.evals.runs.output_items.list(created.id, eval_id=parent.id)).data
    assert [(item.results[0].score, item.results[0].passed) for item in items] == [(1.0, True), (0.5, True)]
