"""What happens on the Runs page's events."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from tuneyard.api.wire.platform_api.runs import Run
from ui.endpoints.run_client import NoRunsHereError, RunClient, RunListing, RunsError
from ui.endpoints.visitor import VisitorOf
from ui.runs.curve_charts import charts_html
from ui.runs.run_details import details_html, head_html
from ui.runs.run_table import ALL_ROWS, empty_html, table_html
from ui.runs.version_table import versions_html
from ui.theme.frame import MARK

Values = dict[Any, Any]
"""Values by component, as Gradio passes them to a handler and takes them back."""

OWN_JOBS = (
    "These are the fine-tuning jobs of your API key. All runs of the cluster are shown with the administrators' key: "
    "start the page with --admin-key-env, or sign in with that key."
)


class RunComponents(NamedTuple):
    """Gradio's components, by what they are for."""

    chosen: Any
    """The id of the run that is shown."""
    shown: Any
    """What `details` and `versions` were made of; they are made anew when it changes."""
    rows: Any
    """ALL_ROWS if the table shows all runs; else it shows the newest ones."""
    problem: Any
    empty: Any
    table: Any
    head: Any
    curves: Any
    details: Any
    versions: Any
    sections: Any
    """The chosen run and the versions, which an empty page does not show."""
    version_section: Any

    @property
    def given(self) -> set[Any]:
        """What handlers read."""
        return {self.chosen, self.shown, self.rows, self.table, self.head, self.curves}

    @property
    def changed(self) -> set[Any]:
        """What handlers change."""
        return set(self)


class RunHandlers:
    """Handlers of the page's events. Each reads the runs anew; `now` gives Unix time in seconds."""

    def __init__(
        self, runs: RunClient, on: RunComponents, visitor_of: VisitorOf, now: Callable[[], float] = time.time
    ) -> None:
        self._runs = runs
        self.on = on
        self._visitor_of = visitor_of
        self._now = now

    async def open(self, values: Values, request: gr.Request) -> Values:
        """Shows the run that the address names (`?run=ID`), else the one that runs, else the newest."""
        wanted = str(request.query_params.get("run") or "")
        return await self._show({**values, self.on.chosen: wanted, self.on.shown: ""}, request)

    async def refresh(self, values: Values, request: gr.Request) -> Values:
        """Shows what has changed."""
        return await self._show(values, request)

    async def choose(self, values: Values, event: gr.EventData, request: gr.Request) -> Values:
        """Shows another run, or more or fewer rows of the table."""
        data = event._data if isinstance(event._data, dict) else {}
        if "rows" in data:
            rows = ALL_ROWS if data["rows"] == ALL_ROWS else ""
            return {self.on.rows: rows, **await self._show({**values, self.on.rows: rows}, request)}
        return await self._show({**values, self.on.chosen: str(data.get("run", ""))}, request)

    async def _show(self, values: Values, request: gr.Request) -> Values:
        key = self._visitor_of(request).key
        try:
            listing = await self._runs.runs(key)
        except NoRunsHereError as e:
            return {**self._blank(), self.on.empty: gr.update(value=_sentence_html(str(e)), visible=True)}
        except RunsError as e:
            return self._problem([str(e)])
        problems = [*listing.problems, *([] if listing.is_admin else [OWN_JOBS])]
        if not listing.runs:
            empty = gr.update(value=empty_html(is_admin=listing.is_admin), visible=True)
            return {**self._blank(), self.on.empty: empty, **self._problem(problems)}
        run = _choose(listing.runs, values[self.on.chosen])
        updates: Values = {
            self.on.chosen: run.id,
            self.on.empty: gr.update(visible=False),
            self.on.sections: gr.update(visible=True),
            self.on.table: table_html(listing.runs, run.id, self._now(), is_whole=values[self.on.rows] == ALL_ROWS),
            self.on.head: head_html(run, self._now()),
        }
        try:
            updates[self.on.curves] = charts_html(await self._runs.curves(listing, run.id, key))
            updates |= await self._parts(values, listing, run, key)
        except RunsError as e:
            problems.append(str(e))
        unchanged = [part for part in (self.on.table, self.on.head, self.on.curves) if part in updates]
        for part in unchanged:
            if updates[part] == values.get(part):
                del updates[part]
        return updates | self._problem(problems)

    async def _parts(self, values: Values, listing: RunListing, run: Run, key: str | None) -> Values:
        """Details and versions, if what they are made of has changed."""
        made = sorted(other.version for other in listing.runs if other.version is not None)
        shown = f"{run.id} {run.status} {run.step is None} {' '.join(made)}"
        if shown == values[self.on.shown]:
            return {}
        details = await self._runs.details(listing, run.id, key)
        versions = await self._runs.versions(listing, key)
        known = frozenset(other.id for other in listing.runs)
        return {
            self.on.shown: shown,
            self.on.details: details_html(details) if details is not None else "",
            self.on.versions: versions_html(versions, known, self._now()),
            self.on.version_section: gr.update(visible=listing.is_admin),
        }

    def _blank(self) -> Values:
        return {
            self.on.chosen: "", self.on.shown: "", self.on.table: "", self.on.sections: gr.update(visible=False),
            **self._problem([]),
        }  # fmt: skip

    def _problem(self, texts: Sequence[str]) -> Values:
        return {self.on.problem: gr.update(value="\n\n".join(texts), visible=bool(texts))}


def _choose(runs: Sequence[Run], wanted: str) -> Run:
    """The wanted run; else the newest one that runs, else the newest."""
    running = [run for run in runs if run.status == "running"]
    return next((run for run in runs if wanted and wanted in (run.id, run.job)), (running or list(runs))[0])


def _sentence_html(text: str) -> str:
    shown = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return f'<div class="run-empty">{MARK}<h2>No runs here</h2><p>{shown}</p></div>'
