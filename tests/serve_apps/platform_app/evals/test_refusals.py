"""What an eval or a run may not be is refused when it is created, by the name of the parameter and with the reason."""

from __future__ import annotations

import copy
from typing import Any

import openai
import pytest

from tests.serve_apps.platform_app.evals.eval_server import EvalServer
from tests.serve_apps.platform_app.evals.test_runs import MATCH, SCHEMA, completions, create_eval

QUESTION = [{"role": "user", "content": "{{ sample.output_text }}"}]
SCORE = {"type": "score_model", "name": "s", "model": "judge", "input": QUESTION}
LABEL = {
    "type": "label_model", "name": "l", "model": "judge", "input": QUESTION, "labels": ["a", "b"],
    "passing_labels": ["a"],
}  # fmt: skip
SIMILAR = {
    "type": "text_similarity", "name": "t", "input": "{{ sample.output_text }}", "reference": "x",
    "evaluation_metric": "bleu", "pass_threshold": 0.5,
}  # fmt: skip

CRITERIA: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "python", "name": "p", "source": "grade = 1"}, "testing_criteria.0", "is a python grader"),
    ({"type": "magic", "name": "m"}, "testing_criteria.0", "supported: string_check, text_similarity, label_model"),
    (SIMILAR | {"evaluation_metric": "cosine"}, "testing_criteria.0.evaluation_metric", "serves no embedding model"),
    (SIMILAR | {"pass_threshold": None}, "testing_criteria.0.pass_threshold", "Missing required parameter"),
    (MATCH | {"operation": "neq"}, "testing_criteria.0.operation", "must be 'eq', 'ne', 'like' or 'ilike'"),
    (MATCH | {"input": "{{ item.ticket_tex }}"}, "testing_criteria.0.input", "it defines: ticket_text, correct_label"),
    (MATCH | {"input": "{{ ticket }}"}, "testing_criteria.0.input", "must begin with item or sample"),
    (MATCH | {"input": "{{ item.ticket_text"}, "testing_criteria.0.input", "has no closing }}"),
    (MATCH | {"reference": None}, "testing_criteria.0.reference", "Missing required parameter"),
    (MATCH | {"extra": 1}, "testing_criteria.0.extra", "Unknown parameter"),
    (SCORE | {"range": [1, 0]}, "testing_criteria.0.range", "the smaller one first"),
    (SCORE | {"range": [1, 7], "pass_threshold": 0.5}, "testing_criteria.0.pass_threshold", "must be from 1 to 7"),
    (SCORE | {"input": []}, "testing_criteria.0.input", "must have at least 1 item"),
    (SCORE | {"input": [{"role": "user", "content": {"type": "input_image", "image_url": "http://x"}}]},
     "testing_criteria.0.input.0.content", "input_image is not supported: the models that are served here read text"),
    (LABEL | {"passing_labels": ["c"]}, "testing_criteria.0.passing_labels", "'c' is none of the labels"),
    (LABEL | {"labels": ["a", "a"]}, "testing_criteria.0.labels", "has 'a' twice"),
    ({"type": "multi", "name": "m", "graders": {"a": SCORE}, "calculate_output": "a + b"},
     "testing_criteria.0.calculate_output", "'b' is neither a grader (a) nor a function"),
    ({"type": "multi", "name": "m", "graders": {"a": {"type": "python"}}, "calculate_output": "a"},
     "testing_criteria.0.graders.a", "is a python grader"),
    ({"type": "multi", "name": "m", "graders": {"a": {"type": "multi"}}, "calculate_output": "a"},
     "testing_criteria.0.graders.a", "must not be a multi grader inside a multi grader"),
]  # fmt: skip


@pytest.mark.parametrize(("criterion", "param", "reason"), CRITERIA)
async def test_a_wrong_grader_is_refused(
    server: EvalServer, criterion: dict[str, Any], param: str, reason: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await create_eval(server.client(), criterion)
    assert caught.value.param == param
    assert reason in caught.value.message
    assert (await server.client().evals.list()).data == []


@pytest.mark.parametrize(
    ("config", "param", "reason"),
    [
        ({"type": "stored_completions"}, "data_source_config.type", "keeps no log of chat completions"),
        ({"type": "logs", "metadata": {"a": "b"}}, "data_source_config.type", "keeps no log of chat completions"),
        ({"type": "custom"}, "data_source_config.item_schema", "Missing required parameter"),
        ({"type": "custom", "item_schema": {"type": "nothing"}}, "data_source_config.item_schema", "is no JSON schema"),
        ({"type": "custom", "item_schema": SCHEMA}, "testing_criteria.0.input", "include_sample_schema to true"),
    ],
)
async def test_a_wrong_data_source_config_is_refused(
    server: EvalServer, config: dict[str, Any], param: str, reason: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await server.client().evals.create(data_source_config=config, testing_criteria=[MATCH])  # type: ignore[arg-type]
    assert caught.value.param == param
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("change", "param", "reason"),
    [
        ({"model": "unknown"}, "data_source.model", "The model 'unknown' does not exist"),
        ({"model": None}, "data_source.model", "Missing required parameter"),
        ({"input_messages": None}, "data_source.input_messages", "Missing required parameter"),
        ({"type": "logs"}, "data_source", "supported: jsonl, completions, responses"),
        ({"source": {"type": "stored_completions"}}, "data_source.source", "No log of requests is kept"),
        ({"source": {"type": "file_content", "content": []}}, "data_source.source.content", "at least 1 item"),
        ({"source": {"type": "file_id", "id": "file-unknown"}}, "id", "No such File object: file-unknown"),
        ({"sampling_params": {"temperature": 3}}, "data_source.sampling_params.temperature", "must be at most 2"),
        ({"sampling_params": {"stop": "x"}}, "data_source.sampling_params.stop", "Unknown parameter"),
        ({"input_messages": {"type": "item_reference", "item_reference": "sample.x"}},
         "data_source.input_messages.item_reference", "must name a list of messages in the row"),
    ],
)  # fmt: skip
async def test_a_wrong_run_is_refused(server: EvalServer, change: dict[str, Any], param: str, reason: str) -> None:
    client = server.client()
    parent = await create_eval(client)
    source = {k: v for k, v in (completions() | change).items() if v is not None}
    with pytest.raises(openai.APIStatusError) as caught:
        await client.evals.runs.create(parent.id, data_source=copy.deepcopy(source))  # type: ignore[arg-type]
    assert caught.value.status_code in (400, 404)
    assert caught.value.param == param
    assert reason in caught.value.message
    assert (await client.evals.runs.list(parent.id)).data == []


async def test_the_model_of_a_grader_must_be_served_when_a_run_is_created(server: EvalServer) -> None:
    client = server.client()
    parent = await create_eval(client, SCORE | {"model": "gone"})
    with pytest.raises(openai.NotFoundError, match="The grader 's': The model 'gone' does not exist"):
        await client.evals.runs.create(parent.id, data_source=completions())  # type: ignore[arg-type]


async def test_a_file_of_another_purpose_has_no_rows(server: EvalServer) -> None:
    client = server.client()
    line = b'{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "writer"}}\n'
    file = await client.files.create(file=("b.jsonl", line), purpose="batch")
    parent = await create_eval(client)
    with pytest.raises(
        openai.BadRequestError, match="has the purpose 'batch'; upload the rows with the purpose 'evals'"
    ):
        await client.evals.runs.create(
            parent.id,
            data_source=completions(source={"type": "file_id", "id": file.id}),  # type: ignore[arg-type]
        )
