"""The events of a job as a stream of server-sent events, until the job has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from serve_apps.http_front.events import DONE_EVENT, error_event
from serve_apps.platform_app.fine_tuning.records.job_store import JobStore
from serve_apps.platform_app.fine_tuning.records.states import TERMINAL
from tuneyard.api.wire.platform_api.lists import PageQuery
from tuneyard.core.errors import RequestError

POLL_INTERVAL_S = 0.5
PAGE = 100


async def stream_events(jobs: JobStore, owner: str, job_id: str, after: str | None) -> AsyncGenerator[str, None]:
    """The job's events after `after`, oldest first, and new ones as they happen; DONE_EVENT when the job has ended.

    An error of the store ends the stream with an error event.
    """
    run = jobs.database.run
    try:
        while True:
            # Read before the events, so that a job that has ended then has all of them there.
            job = await run(jobs.find, owner, job_id)
            has_more = True
            while has_more:
                query = PageQuery(after=after, limit=PAGE, order="asc")
                events, has_more = await run(jobs.events, owner, job_id, query)
                for event in events:
                    after = event.id
                    yield f"data: {event.model_dump_json()}\n\n"
            if job.state.status in TERMINAL:
                yield DONE_EVENT
                return
            await asyncio.sleep(POLL_INTERVAL_S)
    except RequestError as e:
        yield error_event(e)
