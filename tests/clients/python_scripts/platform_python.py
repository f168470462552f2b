"""openai-python through the fine-tuning API; prints what it was answered as one JSON object.

The environment has BASE_URL (with /v1), API_KEY, TRAIN_FILE (chats), BASE (the model to tune) and SERVED (a model that
answers `ok`).
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import openai
from openai.types.fine_tuning import FineTuningJobEvent

BASE, SERVED = os.environ["BASE"], os.environ["SERVED"]
QUESTION: Any = [{"role": "user", "content": "Hello"}]
PAUSE_S = 0.5

client = openai.OpenAI(base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"], max_retries=0, timeout=300)


def tune() -> dict[str, Any]:
    """A job from its file to its model, which answers and is deleted."""
    file = client.files.create(file=Path(os.environ["TRAIN_FILE"]), purpose="fine-tune")
    jobs = client.fine_tuning.jobs
    created = jobs.create(
        model=BASE,
        training_file=file.id,
        suffix="from python",
        seed=3,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 4}}},
    )
    stream = client.get(
        f"/fine_tuning/jobs/{created.id}/events",
        cast_to=FineTuningJobEvent,
        options={"params": {"stream": "true"}},
        stream=True,
        stream_cls=openai.Stream[FineTuningJobEvent],
    )
    events: list[Any] = list(stream)
    job: Any = jobs.retrieve(created.id)
    model = job.fine_tuned_model
    answer: Any = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=8)
    chunks = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=8, stream=True)
    return {
        "statuses": [created.status, job.status],
        "error": job.error,
        "model": model,
        "events": [event.id for event in events],
        "last": events[-1].message,
        "steps": [event.data["step"] for event in events if event.type == "metrics"],
        "listed": [event.id for event in jobs.list_events(job.id, limit=2)],
        "table": client.files.content(job.result_files[0]).text.splitlines(),
        "checkpoints": [[one.step_number, one.fine_tuned_model_checkpoint] for one in jobs.checkpoints.list(job.id)],
        "answer": [answer.model, answer.usage.completion_tokens, sum(len(chunk.choices) for chunk in chunks)],
        "models": [one.id for one in client.models.list()],
        "deleted": client.models.delete(model).deleted,
    }


def batch() -> dict[str, Any]:
    """A batch of three requests."""
    body = {"model": SERVED, "messages": QUESTION}
    rows = [{"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body} for name in "abc"]
    file = client.files.create(file=("requests.jsonl", _jsonl(rows)), purpose="batch")
    found = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"by": "test"},
    )
    while found.status not in ("completed", "failed", "expired", "cancelled"):
        time.sleep(PAUSE_S)
        found = client.batches.retrieve(found.id)
    lines = map(json.loads, client.files.content(found.output_file_id or "").text.splitlines())
    answers = [[line["custom_id"], line["response"]["body"]["choices"][0]["message"]["content"]] for line in lines]
    counts: Any = found.request_counts
    return {
        "status": found.status,
        "counts": counts.to_dict(),
        "metadata": found.metadata,
        "answers": sorted(answers),
    }


def evaluate() -> dict[str, Any]:
    """An eval's run over two rows, of which one passes."""
    parent = client.evals.create(
        name="says ok",
        data_source_config={"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True},
        testing_criteria=[
            {
                "type": "string_check",
                "name": "same",
                "input": "{{ sample.output_text }}",
                "operation": "eq",
                "reference": "{{ item.wanted }}",
            }
        ],
    )
    rows = [{"item": {"wanted": wanted}} for wanted in ("ok", "no")]
    file = client.files.create(file=("rows.jsonl", _jsonl(rows)), purpose="evals")
    template = [{"role": "user", "content": "Do you want {{ item.wanted }}?"}]
    source: Any = {
        "type": "completions",
        "model": SERVED,
        "source": {"type": "file_id", "id": file.id},
        "input_messages": {"type": "template", "template": template},
    }
    run: Any = client.evals.runs.create(parent.id, data_source=source)
    while run.status in ("queued", "in_progress"):
        time.sleep(PAUSE_S)
        run = client.evals.runs.retrieve(run.id, eval_id=parent.id)
    items = list(client.evals.runs.output_items.list(run.id, eval_id=parent.id))
    counts = run.result_counts
    return {
        "status": run.status,
        "counts": [counts.total, counts.passed, counts.failed],
        "items": [
            [item.datasource_item["wanted"], item.results[0].passed, item.sample.output[0].content] for item in items
        ],
        "deleted": client.evals.delete(parent.id).deleted,
    }


def upload() -> dict[str, Any]:
    """A file in two parts."""
    content = b'{"n": 1}\n{"n": 2}\n'
    begun = client.uploads.create(bytes=len(content), filename="n.jsonl", mime_type="text/jsonl", purpose="evals")  # type: ignore[arg-type]
    parts = [client.uploads.parts.create(begun.id, data=data).id for data in (content[:5], content[5:])]
    done = client.uploads.complete(begun.id, part_ids=parts)
    assert done.file is not None
    return {
        "statuses": [begun.status, done.status],
        "text": client.files.content(done.file.id).text,
        "deleted": client.files.delete(done.file.id).deleted,
    }


def _jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


if __name__ == "__main__":
    print(json.dumps({"upload": upload(), "batch": batch(), "evaluate": evaluate(), "tune": tune()}), flush=True)
