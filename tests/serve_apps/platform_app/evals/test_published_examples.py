"""OpenAI's published examples: their requests are accepted, and answers have the examples' fields and types.

Source: OpenAI API reference, evals and graders; guides "Evals" and "Graders". Long texts are shortened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.serve_apps.platform_app.evals.eval_server import EvalServer

EVAL_REQUEST: dict[str, Any] = {
    "name": "IT Ticket Categorization",
    "data_source_config": {
        "type": "custom",
        "item_schema": {
            "type": "object",
            "properties": {"ticket_text": {"type": "string"}, "correct_label": {"type": "string"}},
            "required": ["ticket_text", "correct_label"],
        },
        "include_sample_schema": True,
    },
    "testing_criteria": [
        {
            "type": "string_check",
            "name": "Match output to human label",
            "input": "{{ sample.output_text }}",
            "operation": "eq",
            "reference": "{{ item.correct_label }}",
        }
    ],
}
EVAL: dict[str, Any] = {
    "object": "eval",
    "id": "eval_67abd54d9b0081909a86353f6fb9317a",
    "data_source_config": {
        "type": "custom",
        "schema": {"type": "object", "properties": {"item": {"type": "object"}}, "required": ["item"]},
    },
    "testing_criteria": [
        {
            "name": "String check",
            "id": "String check-2eaf2d8d-d649-4335-8148-9535a7ca73c2",
            "type": "string_check",
            "input": "{{item.input}}",
            "reference": "{{item.ground_truth}}",
            "operation": "eq",
        }
    ],
    "name": "External Data Eval",
    "created_at": 1739314509,
    "metadata": {},
}
RUN_REQUEST: dict[str, Any] = {
    "name": "gpt-4o-mini",
    "data_source": {
        "type": "completions",
        "source": {
            "type": "file_content",
            "content": [{"item": {"ticket_text": "My monitor wont turn on", "correct_label": "Hardware"}}],
        },
        "input_messages": {
            "type": "template",
            "template": [
                {"type": "message", "role": "developer", "content": {"type": "input_text", "text": "Categorize."}},
                {"type": "message", "role": "user", "content": {"type": "input_text", "text": "{{item.ticket_text}}"}},
            ],
        },
        "model": "writer",
        "sampling_params": {"seed": 42, "temperature": 1.0, "top_p": 1.0, "max_completions_tokens": 2048},
    },
    "metadata": {},
}
RUN: dict[str, Any] = {
    "object": "eval.run",
    "id": "evalrun_67e57965b480819094274e3a32235e4c",
    "eval_id": "eval_67e579652b548190aaa83ada4b125f47",
    "report_url": "https://platform.openai.com/evaluations/eval_67e579652b548190aaa83ada4b125f47",
    "status": "queued",
    "model": "gpt-4o-mini",
    "name": "gpt-4o-mini",
    "created_at": 1743092069,
    "result_counts": {"total": 0, "errored": 0, "failed": 0, "passed": 0},
    "per_model_usage": [
        {
            "model_name": "gpt-4o-2024-08-06",
            "invocation_count": 3,
            "prompt_tokens": 166,
            "completion_tokens": 6,
            "total_tokens": 172,
            "cached_tokens": 0,
        }
    ],
    "per_testing_criteria_results": [
        {
            "testing_criteria": "Match output to human label-40d67441-5000-4754-ab8c-181c125803ce",
            "passed": 3,
            "failed": 0,
        }
    ],
    "data_source": RUN_REQUEST["data_source"],
    "error": None,
    "metadata": {},
}
MESSAGE: dict[str, Any] = {
    "role": "developer",
    "content": "Categorize a given news headline.",
    "tool_call_id": None,
    "tool_calls": None,
    "function_call": None,
}
ITEM: dict[str, Any] = {
    "object": "eval.run.output_item",
    "id": "outputitem_67e5796c28e081909917bf79f6e6214d",
    "created_at": 1743092076,
    "run_id": "evalrun_67abd54d60ec8190832b46859da808f7",
    "eval_id": "eval_67abd54d9b0081909a86353f6fb9317a",
    "status": "pass",
    "datasource_item_id": 5,
    "datasource_item": {"ticket_text": "Stock Markets Rally", "correct_label": "Markets"},
    "results": [
        {"name": "String check-a2486074-d803-4445-b431-ad2262e85d47", "sample": None, "passed": True, "score": 1.0}
    ],
    "sample": {
        "input": [MESSAGE, MESSAGE],
        "output": [MESSAGE],
        "finish_reason": "stop",
        "model": "gpt-4o-mini-2024-07-18",
        "usage": {"total_tokens": 325, "completion_tokens": 2, "prompt_tokens": 323, "cached_tokens": 0},
        "error": None,
        "temperature": 1.0,
        "max_completion_tokens": 2048,
        "top_p": 1.0,
        "seed": 42,
    },
}
GRADER_RUN: dict[str, Any] = {
    "reward": 1.0,
    "metadata": {
        "name": "Example score model grader",
        "type": "score_model",
        "errors": {
            "formula_parse_error": False,
            "sample_parse_error": False,
            "truncated_observation_error": False,
            "unresponsive_reward_error": False,
            "invalid_variable_error": False,
            "other_error": False,
            "python_grader_server_error": False,
            "python_grader_server_error_type": None,
            "python_grader_runtime_error": False,
            "python_grader_runtime_error_details": None,
            "model_grader_server_error": False,
            "model_grader_refusal_error": False,
            "model_grader_parse_error": False,
            "model_grader_server_error_details": None,
        },
        "execution_time": 4.365238428115845,
        "scores": {},
        "token_usage": 324,
        "sampled_model_name": "gpt-4o-2024-08-06",
    },
    "sub_rewards": {},
    "model_grader_token_usage_per_model": {
        "judge": {"prompt_tokens": 190, "total_tokens": 324, "completion_tokens": 134, "cached_tokens": 0}
    },
}


def check_like(answer: Any, published: Any, path: str = "answer") -> None:
    """Fails if the answer lacks a field of the published one, or has a value of another type. A published null, which
    is no type, is compared with nothing."""
    if published is None:
        return
    if isinstance(published, Mapping):
        assert isinstance(answer, Mapping), path
        assert published.keys() <= answer.keys(), f"{path} lacks {published.keys() - answer.keys()}"
        for name, value in published.items():
            check_like(answer[name], value, f"{path}.{name}")
    elif isinstance(published, list):
        assert isinstance(answer, list), path
        for value in answer:
            check_like(value, published[0], path)
    else:
        number = (int, float) if isinstance(published, float) else type(published)
        assert isinstance(answer, number), f"{path} is {answer!r}"


async def test_evals_runs_and_items_have_the_published_fields(server: EvalServer) -> None:
    client = server.client()
    created = await client.evals.create(**EVAL_REQUEST)
    check_like(created.to_dict(), EVAL)
    assert created.to_dict().keys() == EVAL.keys()
    assert created.data_source_config.schema_["properties"] == {
        "item": EVAL_REQUEST["data_source_config"]["item_schema"],
        "sample": {"type": "object"},
    }
    assert created.testing_criteria[0].id.startswith("Match output to human label-")
    queued = await client.evals.runs.create(created.id, **RUN_REQUEST)
    assert queued.data_source.to_dict() == RUN_REQUEST["data_source"]
    assert queued.to_dict().keys() == RUN.keys()
    await server.work()
    run = await client.evals.runs.retrieve(queued.id, eval_id=created.id)
    check_like(run.to_dict(), RUN)
    page = (await client.evals.runs.output_items.list(run.id, eval_id=created.id)).to_dict()
    (item,) = page["data"]  # type: ignore[misc]
    check_like(item, ITEM)
    assert item.keys() == ITEM.keys()
    assert page.keys() == {"object", "data", "first_id", "last_id", "has_more"}


@pytest.mark.parametrize(
    "criterion",
    [
        {
            "name": "First label grader", "type": "label_model", "model": "judge",
            "input": [
                {"type": "message", "role": "system",
                 "content": {"type": "input_text", "text": "Classify the sentiment of the statement"}},
                {"type": "message", "role": "user", "content": {"type": "input_text", "text": "Statement: {{item.t}}"}},
            ],
            "passing_labels": ["positive"], "labels": ["positive", "neutral", "negative"],
        },
        {
            "type": "score_model", "name": "my_score_model",
            "input": [{"role": "system", "content": "You are an expert grader."},
                      {"role": "user", "content": "Reference: {{ item.t }}. Model answer: {{ sample.output_text }}"}],
            "pass_threshold": 0.5, "model": "judge", "range": [0, 1],
            "sampling_params": {"max_completions_tokens": 32768, "top_p": 1, "reasoning_effort": "medium"},
        },
        {
            "type": "score_model", "name": "Example score model grader", "model": "judge",
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "Score {{sample.output_text}}"}]}],
            "sampling_params": {"temperature": 1, "top_p": 1, "seed": 42},
        },
        {
            "type": "text_similarity", "name": "Example text similarity grader", "input": "{{sample.output_text}}",
            "reference": "{{item.t}}", "evaluation_metric": "fuzzy_match", "pass_threshold": 0.8,
        },
    ],
)  # fmt: skip
async def test_published_graders_are_accepted_and_given_back(server: EvalServer, criterion: dict[str, Any]) -> None:
    config: Any = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}
    created = await server.client().evals.create(data_source_config=config, testing_criteria=[criterion])  # type: ignore[list-item]
    (stored,) = created.to_dict()["testing_criteria"]  # type: ignore[misc]
    assert {name: stored[name] for name in criterion if name != "input"} == {
        name: value for name, value in criterion.items() if name != "input"
    }


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


async def test_graders_are_validated_and_run_as_published(server: EvalServer) -> None:
    graders = server.client().fine_tuning.alpha.graders
    score: Any = {
        "type": "score_model",
        "name": "Example score model grader",
        "input": [{"role": "user", "content": "Score {{sample.output_text}} for {{item.reference_answer}}"}],
        "model": "judge",
    }
    run = await graders.run(grader=score, item={"reference_answer": "Hardware"}, model_sample="a monitor")
    check_like(run.to_dict(), GRADER_RUN)
    assert (run.reward, run.metadata.sampled_model_name) == (0.75, "judge")
    check: Any = {
        "type": "string_check", "name": "c", "input": "{{sample.output_text}}", "reference": "{{item.label}}",
        "operation": "eq",
    }  # fmt: skip
    validated = await graders.validate(grader=check)
    assert validated.to_dict() == {"grader": check}
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
