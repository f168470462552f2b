"""RunClient: the runs and versions of an endpoint; all of them with the administrators' key, else a key's own jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import openai
from pydantic import BaseModel, ValidationError

from tuneyard.api.wire.platform_api.fine_tuning import FineTuningJob, FineTuningJobEvent
from tuneyard.api.wire.platform_api.lists import ObjectList
from tuneyard.api.wire.platform_api.runs import Run, RunCurves, RunDetails, RunList, Version, VersionList
from tuneyard.core.errors import TuneyardError
from ui.endpoints.chat_client import ChatClient
from ui.endpoints.own_jobs import curves_of_events, run_of_job

TIMEOUT_S = 15.0
NO_SUCH_ROUTE = (404, 405)
NOT_ALLOWED = (401, 403)

PAGE_SIZE = 100
"""Objects of a page, the most that the routes give."""
MAX_RUN_PAGES = 2
"""Pages of runs that are read: the routes tell of the newest 200 runs."""
MAX_EVENT_PAGES = 12
"""Pages of a job's events that are read for its curves: those of 1,000 steps, about all that a job has."""

Answer = TypeVar("Answer", bound=BaseModel)
Page = TypeVar("Page", bound=ObjectList[Any])


class RunsError(TuneyardError):
    """Runs cannot be read. The message is for the person at the page."""


class NoRunsHereError(RunsError):
    """No endpoint of the page tells of runs."""


@dataclass(frozen=True)
class RunListing:
    """The runs that a key may see, the newest first."""

    base_url: str
    is_admin: bool
    """Whether these are all runs of the cluster; else they are the fine-tuning jobs of the key."""
    runs: tuple[Run, ...]
    problems: tuple[str, ...] = ()


class RunClient:
    """Reads runs from the first endpoint of the page that tells of them.

    `key` of the methods is the person's API key; None is `admin_key`, or the page's shared key if that is None too.
    All methods raise RunsError if the endpoint does not answer or refuses.
    """

    def __init__(self, client: ChatClient, admin_key: str | None = None) -> None:
        self._client = client
        self._admin_key = admin_key

    async def runs(self, key: str | None = None) -> RunListing:
        """The runs. Raises NoRunsHereError if no endpoint tells of any."""
        problems: list[RunsError] = []
        for base_url in self._client.base_urls:
            try:
                return await self._runs_of(base_url, key)
            except NoRunsHereError:
                continue
            except RunsError as e:
                problems.append(e)
        if problems:
            raise problems[0]
        raise NoRunsHereError(
            f"{' and '.join(self._client.base_urls)} tell of no runs: deploy with a section `platform` in the "
            "deployment's config (`platform: {}` is enough), and they appear here."
        )

    async def is_admin(self, key: str) -> bool:
        """Whether an endpoint takes this key as the administrators' key."""
        for base_url in self._client.base_urls:
            try:
                await self._get(base_url, "/runs?limit=1", key, RunList)
            except RunsError:
                continue
            return True
        return False

    async def details(self, listing: RunListing, run_id: str, key: str | None = None) -> RunDetails | None:
        """One run with its config and data; None where only the key's jobs are told."""
        if not listing.is_admin:
            return None
        return await self._get(listing.base_url, f"/runs/{run_id}", key or self._admin_key, RunDetails)

    async def curves(self, listing: RunListing, run_id: str, key: str | None = None) -> RunCurves:
        """The run's metrics by step."""
        if listing.is_admin:
            return await self._get(listing.base_url, f"/runs/{run_id}/metrics", key or self._admin_key, RunCurves)
        path = f"/fine_tuning/jobs/{run_id}/events"
        kind = ObjectList[FineTuningJobEvent]
        pages = await self._pages(listing.base_url, path, key, kind, MAX_EVENT_PAGES)
        return curves_of_events(run_id, [event for page in pages for event in page.data])

    async def versions(self, listing: RunListing, key: str | None = None) -> tuple[Version, ...]:
        """The newest versions; none where only the key's jobs are told."""
        if not listing.is_admin:
            return ()
        path = f"/model_versions?limit={PAGE_SIZE}"
        return (await self._get(listing.base_url, path, key or self._admin_key, VersionList)).data

    async def _runs_of(self, base_url: str, key: str | None) -> RunListing:
        try:
            found = await self._pages(base_url, "/runs", key or self._admin_key, RunList, MAX_RUN_PAGES)
            runs = tuple(run for page in found for run in page.data)
            return RunListing(base_url, is_admin=True, runs=runs, problems=found[0].problems)
        except _RefusedError as e:
            if e.status in NO_SUCH_ROUTE:
                raise NoRunsHereError(f"{base_url} tells of no runs.") from e
            if e.status not in NOT_ALLOWED:
                raise
        jobs = await self._pages(base_url, "/fine_tuning/jobs", key, ObjectList[FineTuningJob], MAX_RUN_PAGES)
        own = tuple(run_of_job(job) for page in jobs for job in page.data)
        return RunListing(base_url, is_admin=False, runs=own)

    async def _pages(self, base_url: str, path: str, key: str | None, kind: type[Page], most: int) -> list[Page]:
        """The first pages of a list, `most` at most."""
        pages = [await self._get(base_url, f"{path}?limit={PAGE_SIZE}", key, kind)]
        while pages[-1].has_more and len(pages) < most:
            after = pages[-1].last_id
            pages.append(await self._get(base_url, f"{path}?limit={PAGE_SIZE}&after={after}", key, kind))
        return pages

    async def _get(self, base_url: str, path: str, key: str | None, kind: type[Answer]) -> Answer:
        client = self._client.client_of(base_url, key).with_options(timeout=TIMEOUT_S)
        try:
            response: httpx.Response = await client.get(path, cast_to=httpx.Response)
        except openai.APIStatusError as e:
            raise _RefusedError(_explain(e, base_url), e.status_code) from e
        except openai.APIError as e:
            raise RunsError(f"Runs cannot be read: {base_url} does not answer. The page tries again by itself.") from e
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as e:
            raise RunsError(
                f"{base_url}{path.partition('?')[0]} answers in a form that this page does not know. Their releases "
                "may differ."
            ) from e


class _RefusedError(RunsError):
    """The endpoint answers with an error."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _explain(error: openai.APIStatusError, base_url: str) -> str:
    message = error.body.get("message") if isinstance(error.body, dict) else None
    reason = str(message) if message else "It gave no reason."
    return f"{base_url} does not show its runs (HTTP {error.status_code}): {reason}"
