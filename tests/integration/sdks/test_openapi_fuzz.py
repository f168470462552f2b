"""The API over HTTP, fuzzed with its own OpenAPI document."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from tests.integration.served_api import ServedApi

pytestmark = pytest.mark.integration


def adapt_body(case: Any) -> None:
    """Changes a generated body so that it names the served model and asks for at most 8 tokens."""
    if isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = "tiny"
        if "input" in case.body or "previous_response_id" in case.body:
            case.body["max_output_tokens"] = 8
            return
        for name in ("max_tokens", "max_completion_tokens"):
            if type(case.body.get(name)) is int and case.body[name] > 8:
                case.body[name] = 8
        if not {"max_tokens", "max_completion_tokens"} & case.body.keys() and "tokens" not in case.body:
            case.body["max_tokens"] = 8


@pytest.mark.filterwarnings("ignore")
def test_every_answer_to_fuzzed_requests_conforms_to_the_openapi_document(real: ServedApi) -> None:
    """No answer is a server error; status, content type and body are as documented; the engine stays healthy."""
    schema = schemathesis.openapi.from_url(f"{real.root}/openapi.json")
    checks = [
        schemathesis.checks.not_a_server_error,
        schemathesis.checks.response_schema_conformance,
        schemathesis.checks.content_type_conformance,
        schemathesis.checks.status_code_conformance,
    ]
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 10
    statuses = set()
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        def fuzz(case: Any) -> None:
            adapt_body(case)
            response = case.call(timeout=60)
            statuses.add(response.status_code)
            case.validate_response(response, checks=checks)

        fuzz()
    assert {200, 400} <= statuses
    health = httpx.get(f"{real.root}/healthz", timeout=10).json()
    assert (health["status"], health["requests"]) == ("ok", 0)
