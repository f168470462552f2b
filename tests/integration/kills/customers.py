"""What the clients of the kill tests do, and what they were told: the model that the cluster is compared with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import openai

from tests.integration.kills.platform_cluster import MODEL, write_rows
from tests.integration.platform_server import BASE

ENDED = ("succeeded", "failed", "cancelled")
CHATS = "/v1/chat/completions"
ROWS = 120
"""Requests of a batch. Each tenth is wrong."""


class NoAnswerError(Exception):
    """The request may have had its effect or not."""


@dataclass
class ToldJob:
    """A job, and every status that its owner was told, in order."""

    id: str
    kind: int
    told: list[str] = field(default_factory=list)
    wishes: list[str] = field(default_factory=list)
    """Those that were sent."""
    granted: list[str] = field(default_factory=list)
    is_deleted: bool = False

    @property
    def has_ended(self) -> bool:
        return bool(self.told) and self.told[-1] in ENDED

    def tell(self, status: str) -> None:
        """The owner is told a status. It never changes after an end, and a cancelled job stays so."""
        before = self.told[-1] if self.told else None
        assert before not in ENDED or status == before, f"{self.id} was {before}, and now is {status}"
        self.told.append(status)


class Customer:
    """One API key: its jobs, files and batches. Uploads its files at once, before anything is killed."""

    def __init__(self, client: openai.OpenAI, name: str) -> None:
        self.client = client
        self.name = name
        self.jobs: list[ToldJob] = []
        self.batches: list[str] = []
        self.unanswered = self.unavailable = 0
        lines = "".join(json.dumps(_request(number)) + "\n" for number in range(ROWS))
        self.training_file = self._upload(write_rows(8), "fine-tune")
        self.requests_file = self._upload(lines.encode(), "batch")
        self.files = {self.training_file, self.requests_file}

    def create_job(self, seed: int) -> ToldJob:
        """Repeats the request with the same Idempotency-Key until it is answered. Raises NoAnswerError each time."""
        hyperparameters = {"n_epochs": 1, "batch_size": 2}
        job = self.ask(
            lambda: self.client.fine_tuning.jobs.create(
                model=BASE,
                training_file=self.training_file,
                seed=seed,
                method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
                extra_headers={"Idempotency-Key": f"{self.name}-{seed}"},
            )
        )
        known = next((told for told in self.jobs if told.id == job.id), None)
        assert known is None, f"{job.id} was created twice"
        self.jobs.append(told := ToldJob(job.id, seed // 1000))
        told.tell(job.status)
        return told

    def wish(self, job: ToldJob, wish: str) -> bool:
        """Asks to cancel, pause or resume; the server may refuse. Always True.

        Raises NoAnswerError: the client then asks again.
        """
        job.wishes.append(wish)
        try:
            answer = self.ask(lambda: getattr(self.client.fine_tuning.jobs, wish)(job.id))
        except openai.BadRequestError:
            return True
        job.granted.append(wish)
        job.tell(answer.status)
        return True

    def look(self, job: ToldJob) -> str:
        """The status now."""
        job.tell(status := self.ask(lambda: self.client.fine_tuning.jobs.retrieve(job.id)).status)
        return status

    def create_batch(self, key: str) -> None:
        """As create_job, with ROWS requests."""
        batch = self.ask(
            lambda: self.client.batches.create(
                input_file_id=self.requests_file,
                endpoint=CHATS,
                completion_window="24h",
                extra_headers={"Idempotency-Key": key},
            )
        )
        assert batch.id not in self.batches, f"{batch.id} was created twice"
        self.batches.append(batch.id)

    def check_batch(self, batch_id: str) -> None:
        """Every request has one result; the wrong ones are in the error file."""
        batch = self.client.batches.retrieve(batch_id)
        assert batch.status == "completed", batch
        results: list[list[int]] = []
        for file_id in (batch.output_file_id, batch.error_file_id):
            assert file_id is not None
            self.files.add(file_id)
            lines = self.client.files.content(file_id).text.splitlines()
            results.append(sorted(int(json.loads(line)["custom_id"]) for line in lines))
        wrong = [number for number in range(ROWS) if _is_wrong(number)]
        assert results == [[number for number in range(ROWS) if not _is_wrong(number)], wrong]
        assert batch.request_counts is not None
        counts = {"total": ROWS, "completed": ROWS - len(wrong), "failed": len(wrong)}
        assert batch.request_counts.to_dict() == counts

    def error_of_list(self) -> Exception | None:
        """The error of a request that needs the store; None if it is answered."""
        return _error_of(lambda: self.client.fine_tuning.jobs.list(limit=1))

    def error_of_chat(self) -> Exception | None:
        """The error of a request to a model, which does not need the store; None if it is answered."""
        messages: Any = [{"role": "user", "content": "0"}]
        return _error_of(lambda: self.client.chat.completions.create(model=MODEL, messages=messages))

    def ask(self, request: Callable[[], Any]) -> Any:
        """The answer. Raises NoAnswerError if the server or the database dies, or is not there."""
        try:
            return request()
        except (openai.APIConnectionError, openai.InternalServerError) as e:
            if is_clear(e):
                self.unavailable += 1
            else:
                self.unanswered += 1
            raise NoAnswerError from e

    def _upload(self, content: bytes, purpose: Any) -> str:
        file: str = self.client.files.create(file=("rows.jsonl", content), purpose=purpose).id
        return file


def is_clear(error: Exception) -> bool:
    """Whether the error is in OpenAI's form, says that the records cannot be used now, and when to ask again."""
    if not isinstance(error, openai.InternalServerError) or error.code != "store_unavailable":
        return False
    fields = error.response.json()["error"]
    assert set(fields) == {"message", "type", "param", "code"}, fields
    assert (error.status_code, fields["type"]) == (503, "server_error")
    assert fields["message"].startswith("Records of the fine-tuning API cannot be read or written now: "), fields
    assert "127.0.0.1" not in fields["message"]
    assert int(error.response.headers["Retry-After"]) > 0
    return True


def _error_of(request: Callable[[], Any]) -> Exception | None:
    try:
        request()
    except openai.APIError as e:
        return e
    return None


def _request(number: int) -> dict[str, Any]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": str(number)}]}
    wrong = {"n": 0} if _is_wrong(number) else {}
    return {"custom_id": str(number), "method": "POST", "url": CHATS, "body": body | wrong}


def _is_wrong(number: int) -> bool:
    return number % 10 == 9
