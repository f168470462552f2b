"""JobImport: uploads files and creates jobs, each once, however often it is run."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.cli.api_connection import api_message
from tuneyard.cli.openai_import.export_folder import ExportFolder, SavedObject
from tuneyard.cli.openai_import.import_plan import IMPORTED_FROM, ImportPlan, plan_import
from tuneyard.core.errors import DatasetError, RequestError

if TYPE_CHECKING:
    import openai
    from openai.types.fine_tuning import FineTuningJob

PARTS_OVER_BYTES = 256 * 2**20
"""A file that is larger is uploaded in parts."""

LIMIT_CODE = "active_jobs_limit"
"""The API's code for: this key has as many unfinished jobs as it may have."""

UNSUPPORTED_CODE = "unsupported"
"""The API's code for: this deployment does not do so."""

WAIT_S = 10.0


class JobImport:
    """Prints what it does for each job. Without `client` it only says what it would do, and asks no API."""

    def __init__(self, folder: ExportFolder, client: openai.OpenAI | None, *, is_dry_run: bool, wait: bool) -> None:
        self._folder = folder
        self._client = client
        self._is_dry_run = is_dry_run
        self._wait = wait
        self._counts: Counter[str] = Counter()
        self._uploaded: dict[str, str] | None = None
        """By SHA-256: the id of a file that the API has."""

    def run(self, job_ids: list[str], base: str | None) -> int:
        """Imports the jobs with these ids, or all that succeeded. Returns the exit code: 1 if one is not imported."""
        unknown = set(job_ids) - {str(job["id"]) for job in self._folder.jobs}
        if unknown:
            raise DatasetError(f"{self._folder.path} has no job {', '.join(sorted(unknown))}.")
        for job in self._folder.jobs:
            if job_ids and job["id"] not in job_ids:
                continue
            if not job_ids and job.get("status") != "succeeded":
                self._report("left out", job, f"its status is {job.get('status')}; --job {job['id']} imports it")
                continue
            try:
                self._import(job, plan_import(job, self._folder, base))
            except (RequestError, DatasetError) as e:
                self._report("refused", job, str(e))
        summary = ", ".join(f"{count} {outcome}" for outcome, count in self._counts.items())
        print(f"[import] {summary or 'nothing to do'}")
        return 1 if self._counts["refused"] or self._counts["not created yet"] else 0

    def _import(self, job: SavedObject, plan: ImportPlan) -> None:
        found = self._find(plan.job_id)
        if found is not None:
            self._report("there already", job, f"{found.id}, {found.status}{_new_name(plan, found)}")
            return
        if plan.parent_id is not None:
            parent = self._find(plan.parent_id)
            if parent is not None and parent.fine_tuned_model is not None:
                plan = replace(plan, body=plan.body | {"model": parent.fine_tuned_model})
            elif not self._is_dry_run:
                text = f"it goes on from {plan.model}. Run this again when {plan.parent_id} has succeeded here"
                self._report("not created yet", job, text)
                return
        if self._is_dry_run:
            self._report("would be created", job, plan.describe(), plan)
        else:
            self._create(job, plan)

    def _find(self, job_id: str) -> FineTuningJob | None:
        """The job that an earlier import has created."""
        if self._client is None:
            return None
        jobs: Any = self._client.fine_tuning.jobs
        return next(iter(jobs.list(metadata={IMPORTED_FROM: job_id}, limit=1)), None)

    def _create(self, job: SavedObject, plan: ImportPlan) -> None:
        import openai

        assert self._client is not None
        try:
            body = plan.body | {field: self._upload(path) for field, path in plan.files.items()}
            # Two imports at the same time must not make two jobs.
            token = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
            jobs = self._client.with_options(max_retries=0).fine_tuning.jobs
            while True:
                try:
                    created = jobs.create(**body, extra_headers={"Idempotency-Key": token})
                    break
                except openai.RateLimitError as e:
                    if e.code != LIMIT_CODE:
                        raise
                    if not self._wait:
                        self._report("not created yet", job, api_message(e))
                        return
                    time.sleep(WAIT_S)
        except (openai.BadRequestError, openai.NotFoundError) as e:
            if (e.code, e.param) == (UNSUPPORTED_CODE, "integrations") and "integrations" in plan.body:
                self._create(job, plan.without_integrations())
                return
            self._report("refused", job, api_message(e))
            return
        self._report("created", job, f"{created.id}  {plan.describe()}", plan)

    def _upload(self, path: Path) -> str:
        """The id of the file at the API, which gets it only once."""
        assert self._client is not None
        if self._uploaded is None:
            files = self._client.files.list(purpose="fine-tune")
            self._uploaded = {file.to_dict().get("sha256", file.id): file.id for file in files}  # type: ignore[misc]
        digest = _sha256(path)
        if digest not in self._uploaded:
            if path.stat().st_size > PARTS_OVER_BYTES:
                upload = self._client.uploads.upload_file_chunked(
                    file=path, mime_type="text/jsonl", purpose="fine-tune"
                )
                assert upload.file is not None
                file = upload.file
            else:
                with path.open("rb") as content:
                    file = self._client.files.create(file=(path.name, content), purpose="fine-tune")
            self._uploaded[digest] = file.id
            print(f"[import] uploaded {path.name}: {file.id}", flush=True)
        return self._uploaded[digest]

    def _report(self, outcome: str, job: SavedObject, text: str, plan: ImportPlan | None = None) -> None:
        self._counts[outcome] += 1
        print(f"[import] {job['id']}  {outcome}: {text}", flush=True)
        for note in plan.notes if plan is not None else ():
            print(f"[import]     {note}")


def _new_name(plan: ImportPlan, job: FineTuningJob) -> str:
    """The name of the model, beside that at OpenAI."""
    if job.fine_tuned_model is None:
        return ""
    return f": {plan.tuned_model} is {job.fine_tuned_model}" if plan.tuned_model else f": {job.fine_tuned_model}"


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
