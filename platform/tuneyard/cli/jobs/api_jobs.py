"""ApiJobs: the jobs of a fine-tuning API, of Tuneyard's or another one, by OpenAI's client."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tuneyard.cli.api_connection import open_api_client, raise_api_error
from tuneyard.core.errors import DatasetError

if TYPE_CHECKING:
    import openai
    from openai.types.fine_tuning import FineTuningJobEvent


class ApiJobs:
    """Context manager; its methods print. Errors of the API within the context become ClusterError.

    Raises ConfigError if `url` is no URL. `client` replaces the client for it.
    """

    def __init__(self, url: str, client: openai.OpenAI | None = None) -> None:
        self._url = url
        self._client = client or open_api_client(url)
        self._jobs = self._client.fine_tuning.jobs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise_api_error(error, self._url)

    def create(
        self,
        train: Path,
        heldout: Path | None,
        *,
        model: str,
        method: str,
        epochs: int | None,
        suffix: str | None,
        wait: bool,
    ) -> int:
        """Uploads the files and creates a job. Returns the exit code: with `wait` that of the job's end."""
        import openai

        values = {"n_epochs": epochs} if epochs is not None else {}
        options: dict[str, Any] = {
            "model": model,
            "training_file": self._upload(train),
            "validation_file": self._upload(heldout) if heldout is not None else openai.omit,
            "method": {"type": method, method: {"hyperparameters": values}},
            "suffix": suffix if suffix is not None else openai.omit,
        }
        job = self._jobs.create(**options)
        print(f"[jobs] created {job.id}; cancel it with: tuneyard jobs stop {job.id} --api {self._url}", flush=True)
        return self._follow(job.id) if wait else 0

    def print_list(self) -> None:
        """Prints one line for each job, the newest first."""
        is_empty = True
        for job in self._jobs.list(limit=100):
            is_empty = False
            print(f"{job.id}  {job.status:<16}  {_time(job.created_at)}  {job.fine_tuned_model or job.model}")
        if is_empty:
            print("this API key has created no job")

    def print_status(self, job_id: str) -> int:
        """Prints where a job is; returns the exit code, 1 for a job that failed."""
        job = self._jobs.retrieve(job_id)
        print(f"{job.id}  {job.status}  {job.fine_tuned_model or job.model}")
        values = job.hyperparameters.model_dump(exclude_none=True)
        print("  " + "  ".join(f"{name}={value}" for name, value in values.items()))
        for event in self._jobs.list_events(job_id, limit=1).data:
            print(f"  {_line(event)}")
        if job.estimated_finish is not None:
            print(f"  ends about {_time(job.estimated_finish)}")
        if job.error is not None and job.error.message:
            print(f"  {job.error.message}")
        return 1 if job.status == "failed" else 0

    def print_events(self, job_id: str, *, follow: bool) -> int:
        """Prints the events of a job, the oldest first; with `follow` until it ends, and returns its exit code."""
        if follow:
            return self._follow(job_id)
        for event in reversed(list(self._jobs.list_events(job_id, limit=100))):
            print(_line(event))
        return 0

    def cancel(self, job_id: str) -> None:
        """Cancels a job."""
        print(f"[jobs] {job_id} is {self._jobs.cancel(job_id).status}")

    def pause(self, job_id: str) -> None:
        """Pauses a job."""
        print(f"[jobs] {job_id} is {self._jobs.pause(job_id).status}")

    def resume(self, job_id: str, *, wait: bool) -> int:
        """Resumes a paused job; returns the exit code."""
        print(f"[jobs] {job_id} is {self._jobs.resume(job_id).status}", flush=True)
        return self._follow(job_id) if wait else 0

    def _upload(self, path: Path) -> str:
        if not path.is_file():
            raise DatasetError(f"{path}: no such file.")
        with path.open("rb") as content:
            return self._client.files.create(file=(path.name, content), purpose="fine-tune").id

    def _follow(self, job_id: str) -> int:
        try:
            for event in self._stream(job_id):
                print(_line(event), flush=True)
        except KeyboardInterrupt:
            print(f"\n[jobs] {job_id} goes on. Follow it: tuneyard jobs logs -f {job_id} --api {self._url}", flush=True)
            raise
        job = self._jobs.retrieve(job_id)
        print(f"[jobs] {job_id} {job.status}" + (f": {job.fine_tuned_model}" if job.fine_tuned_model else ""))
        return 0 if job.status == "succeeded" else 1

    def _stream(self, job_id: str) -> Iterator[FineTuningJobEvent]:
        """The events as they happen, until the job has ended."""
        import openai
        from openai.types.fine_tuning import FineTuningJobEvent

        stream = self._client.get(
            f"/fine_tuning/jobs/{job_id}/events",
            cast_to=FineTuningJobEvent,
            options={"params": {"stream": "true"}},
            stream=True,
            stream_cls=openai.Stream[FineTuningJobEvent],
        )
        with stream:
            yield from stream


def _line(event: FineTuningJobEvent) -> str:
    mark = "" if event.level == "info" else f"{event.level}: "
    return f"{_time(event.created_at)}  {mark}{event.message}"


def _time(unix_s: int) -> str:
    """Local time."""
    return datetime.datetime.fromtimestamp(unix_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")
