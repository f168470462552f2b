"""One run as HTML: facts, statistics of its data, the tokens that it trains on, its config."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import yaml

from tuneyard.api.wire.platform_api.runs import Run, RunDetails
from tuneyard.core.wording import count_of
from tuneyard.training_data.report.data_report import DataReport, RenderedData, SamplePreview
from ui.runs.run_table import badge_html, progress_html, time_left
from ui.runs.wording import ago, duration, number


def head_html(run: Run, now: float) -> str:
    """Name, state, and the facts of a run that change while it trains."""
    message = f'<p class="run-message" dir="auto">{escape(run.message)}</p>' if run.message else ""
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _facts(run, now))
    return (
        f'<header class="run-head"><h2>{escape(run.name)}</h2>{badge_html(run.status)}</header>{message}'
        f'<dl class="run-facts">{facts}</dl>'
    )


def _facts(run: Run, now: float) -> Iterator[tuple[str, str]]:
    yield "Progress", progress_html(run)
    if run.estimated_finish is not None:
        yield "Time left", time_left(run, now)
    yield "Started", ago(run.started_at, now)
    if run.finished_at is not None:
        yield "Took", duration(run.finished_at - run.started_at)
    if "tokens_per_s" in run.metrics:
        yield "Tokens/s", number(run.metrics["tokens_per_s"])
    if run.model and run.model != run.name:
        yield "Model", escape(run.model)
    if run.version is not None:
        yield "Version", escape(run.version)
    if run.job is not None:
        yield "Ray job", f"<code>{escape(run.job)}</code>"


def details_html(run: RunDetails) -> str:
    """What does not change while the run trains."""
    problems = "".join(f'<p class="run-note" role="status">{escape(text)}</p>' for text in run.problems)
    data = _data_html(run.data) if run.data is not None else ""
    return f"{problems}{data}{_config_html(run)}"


def _data_html(data: DataReport) -> str:
    heldout = f"<h4>Held-out</h4>{_statistics_html(data.heldout)}" if data.heldout is not None else ""
    previews = "".join(_preview_html(sample) for sample in data.preview)
    return (
        f'<section class="run-section"><h3>Data</h3><div class="run-data"><div><h4>Training</h4>'
        f"{_statistics_html(data.train)}</div><div>{heldout}</div></div>{_histogram_html(data.train)}</section>"
        '<section class="run-section"><h3>Tokens</h3><p class="run-note"><span class="run-token run-trained">Marked'
        "</span> tokens are trained on; the others are what the model reads before it answers. Point at a "
        f"token to see its id.</p>{previews}</section>"
    )


def _statistics_html(data: RenderedData) -> str:
    share = data.trained_tokens / data.tokens if data.tokens else 0.0
    facts = [
        ("Pairs" if data.pairs else "Chats", f"{data.chats:,}"),
        ("Samples", f"{data.samples:,}" + (f" in {count_of(data.packs, 'pack')}" if data.packs is not None else "")),
        ("Tokens", f"{data.tokens:,}"),
        ("Trained", f"{data.trained_tokens:,} ({share:.0%})"),
        ("Median", f"{data.median:,} tokens"),
        ("Longest", f"{data.longest:,} of {data.max_length:,}"),
    ]
    if data.too_long:
        facts.append(("Left out", f"{data.too_long:,} too long"))
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return f'<dl class="run-facts">{rows}</dl>'


def _histogram_html(data: RenderedData) -> str:
    largest = max(data.histogram.values(), default=1)
    bars = "".join(
        f"<tr><th scope=row>up to {edge:,}</th><td><i style='width:{count / largest:.1%}'></i></td>"
        f"<td>{count:,}</td></tr>"
        for edge, count in data.histogram.items()
    )
    return (
        '<table class="run-histogram"><caption>Samples by tokens</caption><thead class="ty-hidden"><tr><th>Tokens</th>'
        f"<th>Bar</th><th>Samples</th></tr></thead><tbody>{bars}</tbody></table>"
    )


def _preview_html(sample: SamplePreview) -> str:
    pieces = "".join(
        f'<span class="run-token{" run-trained" if piece.trained else ""}" title="{" ".join(map(str, piece.ids))}">'
        f"{escape(piece.text)}</span>"
        for piece in sample.pieces
    )
    shown = sum(len(piece.ids) for piece in sample.pieces)
    rest = f" · the first {shown:,} are shown" if shown < sample.tokens else ""
    name = f"{escape(sample.name)} · {count_of(sample.tokens, 'token')}{rest}"
    return (
        f'<figure class="run-sample"><figcaption>{name}</figcaption>'
        f'<pre class="run-tokens" tabindex="0" role="region" aria-label="Tokens of {escape(sample.name)}">'
        f"{pieces}</pre></figure>"
    )


def _config_html(run: RunDetails) -> str:
    if run.config is None and not run.params:
        return ""
    shown = run.config if run.config is not None else run.params
    text = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=100)
    title = "Config" if run.config is not None else "Settings in the registry"
    folder = f'<p class="run-note">Folder: <code>{escape(run.folder)}</code></p>' if run.folder else ""
    return (
        f'<section class="run-section"><h3>{title}</h3>{folder}<details class="run-config"><summary>Show all fields'
        f'</summary><pre tabindex="0" role="region" aria-label="{title}">{escape(text)}</pre></details></section>'
    )
