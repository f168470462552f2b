"""Tracing on and off: what is imported, where traces go, and that they arrive at a collector over OTLP/HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from serve_apps.tracing.tracing import NO_TRACING, TracingOptions, open_tracing, tracing_options
from tests.otlp_collector import Collector
from tuneyard.configs.telemetry import TelemetryConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import ConfigError, MissingDependencyError


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        yield server


def test_spans_arrive_at_a_collector(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a")
    options = tracing_options(TelemetryConfig(otlp_endpoint=collector.url, service_name="support"), {})
    tracing = open_tracing(options, "replica-1")
    with tracing.begin("POST /v1/chat/completions", {}) as span:
        span.set("tuneyard.request_id", "req-1")
        with span.start("engine") as step:
            step.add_event("first token")
            step.add_tokens(3, 4)
    tracing.close()
    ((path, team, content),) = collector.received
    assert (path, team) == ("/v1/traces", "a")
    (resource,) = content.resource_spans
    about = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert (about["service.name"], about["service.instance.id"]) == ("support", "replica-1")
    engine, root = resource.scope_spans[0].spans
    assert (engine.name, root.name) == ("engine", "POST /v1/chat/completions")
    assert engine.parent_span_id == root.span_id
    assert [event.name for event in engine.events] == ["first token"]
    counts = {item.key: item.value.int_value for item in engine.attributes}
    assert counts == {"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4}
    assert {item.key: item.value.string_value for item in root.attributes} == {"tuneyard.request_id": "req-1"}


def test_a_share_of_the_requests_is_traced_and_all_that_their_sender_traces(collector: Collector) -> None:
    tracing = open_tracing(TracingOptions(f"{collector.url}/v1/traces", "tuneyard", 0.0), "r")
    tracing.begin("untraced", {}).end()
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    for flags, name in (("00", "not sampled"), ("01", "sampled")):
        tracing.begin(name, {"traceparent": f"00-{trace_id}-b7ad6b7169203331-{flags}"}).end()
    tracing.begin("broken header", {"traceparent": "00-xyz"}).end()
    tracing.close()
    assert [span.name for span in collector.spans()] == ["sampled"]


def test_the_environment_of_the_deploying_process_names_the_collector() -> None:
    config = TelemetryConfig()
    assert tracing_options(config, {}) is None
    base = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}
    assert config.traces_url(base) == "http://c:4318/v1/traces"
    assert config.traces_url(base | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/x"}) == "http://t/x"
    assert TelemetryConfig(otlp_endpoint="https://d/otlp").traces_url(base) == "https://d/otlp/v1/traces"
    with pytest.raises(ValidationError):
        TelemetryConfig(otlp_endpoint="collector:4318")


@pytest.mark.parametrize(
    "url", ["https://user:hunter2@c/otlp", "https://hunter2@c", "https://c/otlp?api_key=hunter2", "https://c/#hunter2"]
)
def test_an_endpoint_that_may_hold_a_secret_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="OTEL_EXPORTER_OTLP_HEADERS") as refused:
        TelemetryConfig(otlp_endpoint=url)
    assert all("hunter2" not in error["msg"] for error in refused.value.errors())
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        with pytest.raises(ConfigError, match=f"{name}: the URL of https://c holds a user or a query") as error:
            TelemetryConfig().traces_url({name: url})
        assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/?key=hunter2",
        "h:4318?key=hunter2",
        "user:hunter2@h:4318",
        "hunter2@h",
        "http://user:hunter2@[h",
        "http://user:hunter2@h\u2100",
    ],
)
def test_what_is_no_url_of_a_collector_is_not_shown_either(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(TelemetryConfig, None, [f"otlp_endpoint={json.dumps(url)}"])
    assert "otlp_endpoint: " in str(error.value)
    assert "hunter2" not in str(error.value)


def test_without_an_exporter_nothing_is_traced_and_opentelemetry_not_imported() -> None:
    assert open_tracing(None, "r") is NO_TRACING
    code = (
        "import sys, serve_apps.api.routes, serve_apps.engine_wrappers.traced_engine, serve_apps.api.call_origin\n"
        "from serve_apps.tracing.tracing import open_tracing\n"
        "open_tracing(None, 'r')\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "serve_apps.tracing.opentelemetry_tracing", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tuneyard\[otel\]'"):
        open_tracing(TracingOptions("http://c/v1/traces", "tuneyard", 1.0), "r")
