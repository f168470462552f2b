"""The Runs page's HTML: charts, tables, tokens; well-formed, whatever a run is called and whatever it measured."""

from __future__ import annotations

import math
import re
from html import escape
from itertools import pairwise
from xml.etree import ElementTree

import hypothesis.strategies as st
from hypothesis import given

from tuneyard.api.wire.platform_api.runs import Curve, Lineage, Run, RunCurves, RunDetails, ServedBy, Version
from tuneyard.training_data.report.data_report import DataReport, RenderedData, SamplePreview, TokenPiece
from ui.runs.curve_charts import MAX_TICKS, Axes, charts_html, nice_ticks
from ui.runs.run_details import details_html, head_html
from ui.runs.run_table import table_html
from ui.runs.version_table import versions_html
from ui.runs.wording import ago, duration, number

EVIL = "<img src=x onerror=alert(1)> \" ' & ${evil} `x`"
FINITE = st.floats(-1e300, 1e300)


def a_run(**fields: object) -> Run:
    values = {
        "id": "r1", "name": "first", "model": "brindle", "status": "running", "message": None, "step": 10,
        "total_steps": 40, "progress": 0.25, "estimated_finish": 160, "started_at": 40, "finished_at": None,
        "metrics": {"loss": 0.8, "tokens_per_s": 1234.5}, "job": "raysubmit_1", "version": None,
    }  # fmt: skip
    return Run.model_validate(values | fields)


def a_version(**fields: object) -> Version:
    lineage = Lineage(
        run="r1", run_name="first", base="tiny", base_digest="b" * 64, dataset_fingerprint="d" * 64,
        codec_fingerprint=None, weights_digest=None, git_commit=None,
    )  # fmt: skip
    values = {
        "id": "brindle/1", "model": "brindle", "version": 1, "kind": "model", "aliases": ("newest",),
        "created_at": 40, "checkpoint": "/models/1", "lineage": lineage, "metrics": {"eval_loss": 0.9},
        "served_by": (ServedBy(model="support", reference="brindle@newest"),),
    }  # fmt: skip
    return Version.model_validate(values | fields)


def elements(html: str) -> ElementTree.Element:
    """The HTML as a tree: nothing in it is left open, and nothing is markup that was text."""
    voided = html.replace("<br>", "<br/>")
    quoted = re.sub(r" (scope|class|style)=([\w-]+)", r' \1="\2"', voided)
    return ElementTree.fromstring(f"<all>{quoted}</all>")


def test_times_are_told_in_at_most_two_units() -> None:
    told = [duration(seconds) for seconds in (-5, 0, 59, 60, 65, 3600, 3900, 90_000, 864_000)]
    assert told == ["0 s", "0 s", "59 s", "1 min", "1 min", "1 h", "1 h 5 min", "1 d 1 h", "10 d"]
    assert [ago(at, 1000) for at in (999, 930, -3000)] == ["just now", "1 min ago", "1 h 6 min ago"]


@given(FINITE)
def test_a_number_is_near_what_it_shows(value: float) -> None:
    shown = float(number(value).replace(",", ""))
    assert math.isclose(shown, value, rel_tol=6e-3, abs_tol=1e-300)


def test_numbers_are_short() -> None:
    assert [number(value) for value in (0.0, 0.80004, 1e-5, 2.5e-4, 1234.5, 1e9, math.nan)] == [
        "0", "0.8", "1e-5", "2.5e-4", "1,234", "1e9", "–",
    ]  # fmt: skip


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_ticks_enclose_the_values_and_are_few(one: float, other: float) -> None:
    low, high = sorted((one, other))
    ticks = nice_ticks(low, high)
    slack = 1e-9 * max(abs(low), abs(high), 1e-300)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= MAX_TICKS + 2
    assert all(lower < higher for lower, higher in pairwise(ticks))


@given(
    st.dictionaries(
        st.sampled_from(["loss", "eval_loss", "learning_rate", "tokens_per_s", "unknown"]),
        st.lists(
            st.tuples(st.integers(0, 10**6), st.none() | st.floats(-1e9, 1e9)),
            min_size=1,
            max_size=40,
            unique_by=lambda p: p[0],
        ),
    )
)
def test_curves_are_drawn_inside_their_axes(points: dict[str, list[tuple[int, float | None]]]) -> None:
    curves = tuple(
        Curve(
            name=name,
            steps=tuple(s for s, _ in sorted(p, key=lambda x: x[0])),
            values=tuple(v for _, v in sorted(p, key=lambda x: x[0])),
        )
        for name, p in points.items()
    )
    tree = elements(charts_html(RunCurves(run="r", last_step=1, curves=curves)))
    for svg in tree.iter("svg"):
        width, height = map(float, svg.attrib["viewBox"].split()[2:])
        drawn = [line.attrib["points"].split() for line in svg.iter("polyline")]
        places = [tuple(map(float, place.split(","))) for line in drawn for place in line]
        places += [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in svg.iter("circle")]
        assert all(0 <= x <= width and 0 <= y <= height for x, y in places)


def test_a_value_that_is_not_finite_cuts_the_curve() -> None:
    curve = Curve(name="loss", steps=(1, 2, 3, 4, 5), values=(3.0, 2.0, None, 1.5, 1.0))
    tree = elements(charts_html(RunCurves(run="r", last_step=5, curves=(curve,))))
    assert [len(line.attrib["points"].split()) for line in tree.iter("polyline")] == [2, 2]
    (svg,) = tree.iter("svg")
    assert svg.attrib["aria-label"] == "Loss: training from 3 to 1 at step 5"


def test_higher_values_are_higher_and_later_steps_further_right() -> None:
    axes = Axes.of([Curve(name="loss", steps=(1, 9), values=(3.0, 1.0))])
    assert axes is not None
    assert axes.y(3.0) < axes.y(1.0)
    assert axes.x(1) < axes.x(9)


def test_without_points_the_page_says_when_the_curves_begin() -> None:
    assert "The curves begin with the first one" in charts_html(RunCurves(run="r", last_step=None, curves=()))


def test_a_row_says_where_a_run_is() -> None:
    waiting = {"progress": None, "step": None, "total_steps": None, "estimated_finish": None, "metrics": {}}
    runs = [a_run(), a_run(id="r2", name="waits", status="queued", **waiting)]
    tree = elements(table_html(runs, "r1", 100, is_whole=False))
    first, second = next(tree.iter("tbody"))
    texts = [" ".join("".join(cell.itertext()).split()) for cell in first]
    assert texts == ["firstbrindle", "Running", "10 / 40", "1 min", "0.8", "–", "1 min ago"]
    assert [" ".join("".join(cell.itertext()).split()) for cell in second][1:4] == ["Queued", "–", "–"]
    assert [button.attrib["aria-pressed"] for button in tree.iter("button")] == ["true", "false"]


def test_text_of_users_is_never_markup() -> None:
    run = a_run(name=EVIL, model=EVIL, message=EVIL, id=EVIL, job=EVIL)
    rendered = RenderedData(
        chats=3, pairs=False, samples=3, tokens=9, trained_tokens=3, longest=3, median=3, too_long=1, max_length=8,
        histogram={4: 3}, packs=1,
    )  # fmt: skip
    preview = SamplePreview(name=EVIL, tokens=500, pieces=(TokenPiece(text=EVIL, ids=(1, 2), trained=True),))
    details = RunDetails(
        **run.model_dump(), folder=EVIL, config={"model": {"base": EVIL}}, params={}, problems=(EVIL,),
        data=DataReport(train=rendered, heldout=rendered, preview=(preview,)),
    )  # fmt: skip
    lineage = a_version().lineage.model_copy(update={"run_name": EVIL, "base": EVIL})
    version = a_version(
        id=EVIL, aliases=(EVIL,), lineage=lineage, served_by=(ServedBy(model=EVIL, reference="a@" + EVIL),)
    )
    for html in (
        table_html([run], EVIL, 100, is_whole=False), head_html(run, 100), details_html(details),
        versions_html([version], frozenset(["r1"]), 100),
    ):  # fmt: skip
        assert "<img" not in html
        assert not any(element.tag == "img" for element in elements(html).iter())
    assert escape(EVIL) in details_html(details)


def test_trained_tokens_are_marked() -> None:
    pieces = (TokenPiece(text="Q ", ids=(5,), trained=False), TokenPiece(text="🐈", ids=(6, 7), trained=True))
    rendered = RenderedData(
        chats=1, pairs=False, samples=1, tokens=3, trained_tokens=2, longest=3, median=3, too_long=0, max_length=8,
        histogram={4: 1}, packs=None,
    )  # fmt: skip
    data = DataReport(train=rendered, heldout=None, preview=(SamplePreview(name="c:1", tokens=3, pieces=pieces),))
    details = RunDetails(**a_run().model_dump(), folder=None, config=None, params={}, problems=(), data=data)
    (block,) = elements(details_html(details)).iter("pre")
    assert [(span.text, span.attrib["class"], span.attrib["title"]) for span in block] == [
        ("Q ", "run-token", "5"), ("🐈", "run-token run-trained", "6 7"),
    ]  # fmt: skip


def test_a_version_leads_to_its_run_if_the_page_can_show_it() -> None:
    html = versions_html([a_version()], frozenset(["r1"]), 100)
    assert [button.attrib["data-run"] for button in elements(html).iter("button")] == ["r1"]
    assert "support" in html
    assert "by brindle@newest" in html
    assert list(elements(versions_html([a_version()], frozenset(), 100)).iter("button")) == []
