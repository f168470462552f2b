"""Fuzzes every route of a server process, a model's and the gateway's, while a watchdog looks on.

No answer is a server error, and the event loop never stands still for longer than MOST_PAUSE_S of CPU time. Bodies come
from the OpenAPI document (schemathesis), and from strategies for sizes and depths (`bodies`). The same tests with many
more examples: `make test-long`.
"""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serve_apps.hostile.bodies import Body, bodies
from tests.serve_apps.hostile.running_server import HEADERS, Server

MODEL_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/tokenize", "/detokenize")
PATHS = (*MODEL_PATHS, "/v1/chat/completions/render", *(f"/gateway{path}" for path in MODEL_PATHS))

FUZZ: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def fuzz_with_the_document(server: Server, examples: int) -> None:
    document = schemathesis.openapi.from_dict(server.check(server.client.get("/openapi.json")).json())
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) >= 15
    statuses = set()
    for operation in operations:

        @given(case=operation.as_strategy(), prefix=st.sampled_from(["", "/gateway"]))
        @settings(max_examples=examples, **FUZZ)
        def fuzz(case: Any, prefix: str) -> None:
            if isinstance(case.body, dict) and "model" in case.body:
                case.body["model"] = "tiny"
            request = case.as_transport_kwargs(base_url=server.root + prefix, headers=HEADERS)
            answer = server.client.request(
                request["method"],
                request["url"],
                params=request["params"],
                json=request.get("json"),
                headers=dict(request["headers"]),
                cookies=request["cookies"],
            )
            statuses.add(server.check(answer).status_code)

        fuzz()
    assert {200, 400, 404} <= statuses


def fuzz_with_sizes(server: Server, examples: int) -> None:
    @given(path=st.sampled_from(PATHS), body=bodies)
    @settings(max_examples=examples, **FUZZ)
    def fuzz(path: str, body: Body) -> None:
        server.send(path, body.data)

    fuzz()


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
def test_fuzz_with_the_openapi_document(server: Server) -> None:
    fuzz_with_the_document(server, examples=12)


@pytest.mark.integration
def test_fuzz_with_sizes_and_depths(server: Server) -> None:
    fuzz_with_sizes(server, examples=80)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore")
def test_fuzz_with_the_openapi_document_long(server: Server) -> None:
    fuzz_with_the_document(server, examples=600)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # hypothesis prints a failing body
def test_fuzz_with_sizes_and_depths_long(server: Server) -> None:
    fuzz_with_sizes(server, examples=4000)
