"""Forwards a request to the replicas of its model, and their answer or stream to the client."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from ray.serve.exceptions import BackPressureError

from serve_apps.api.call_origin import CallOrigin
from serve_apps.api.model_calls import CallAnswer, CallEvents
from serve_apps.gateway.charged_call import ChargedCall
from serve_apps.gateway.metrics import RequestMeasurement
from serve_apps.gateway.model_directory import ModelDirectory, RunningModel
from serve_apps.http_front.admission import authorization_header, reserve_tokens
from serve_apps.http_front.bodies import read_json
from serve_apps.http_front.events import EventStreamResponse, ends_stream, error_event, response_error_event
from serve_apps.keys.grant import Grant
from serve_apps.keys.key_gate import KeyGate
from serve_apps.keys.model_scope import hidden_model_error
from serve_apps.tracing.span import NO_SPAN, current_span
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import EngineError, ModelNotFoundError, OverloadedError, RequestError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Answers requests of any path in model_calls.PATHS."""

    directory: ModelDirectory
    gate: KeyGate
    limits: HttpLimits

    async def answer(self, path: str, request: Request, measurement: RequestMeasurement) -> Response:
        """The response of the model that the request's body names. Raises RequestError, as the model's own API does."""
        grant = await self.gate.admit(authorization_header(request))
        trace = current_span()
        trace.set("tuneyard.key.name", grant.key_name)
        forwarding = NO_SPAN
        try:
            body = await read_json(request, self.limits)
            model = await self._find_model(body, grant)
            grant.check_model(model.description.model_id, body["model"])
            # The replica knows its model by id only; the client may have used a version or an alias.
            body["model"] = measurement.model = model.description.model_id
            await reserve_tokens(grant, request, model.description.model_id, *_answer_size(path, body))
            calls = model.handle.options(stream=True)
            is_stream = body.get("stream") is True and path.startswith("/v1/")
            trace.set("gen_ai.request.model", measurement.model)
            forwarding = trace.start("forward")
            origin = CallOrigin.of_current_request(forwarding)
            items = (calls.stream if is_stream else calls.complete).remote(path, body, grant.owner, origin)
            call = ChargedCall(items, grant, trace)
            answer = await _first_answer(model, call)
        except BaseException:
            grant.release()
            forwarding.end()
            raise
        headers = model.description.headers | grant.headers()
        if answer.content is None:

            async def close() -> None:
                """First ends the call: a replica that goes on would take what the key's grant no longer counts."""
                try:
                    await call.cancel()
                finally:
                    measurement.close("cut")
                    forwarding.end()
                    await grant.close()

            events = _events(model, call, measurement)
            return EventStreamResponse(events, [close], headers, request.app.state.heartbeat_s)
        if answer.status == 200:
            measurement.record_begin()
        measurement.close(str(answer.status))
        forwarding.end()
        await grant.close()
        return JSONResponse(answer.content, status_code=answer.status, headers=headers)

    async def _find_model(self, body: Any, grant: Grant) -> RunningModel:
        name = body.get("model") if isinstance(body, dict) else None
        if not isinstance(name, str):
            raise RequestError("Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
        try:
            return await self.directory.find(name)
        except ModelNotFoundError as e:
            # Its message lists all models that run.
            raise (hidden_model_error(name) if grant.is_restricted else e) from e


def _answer_size(path: str, body: dict[str, Any]) -> tuple[int | None, int]:
    """The most tokens of each answer, None without such a limit, and the number of answers.

    Wrong values count as absent: the replica refuses them.
    """
    if not path.startswith("/v1/"):
        return 0, 1
    limits = [body.get(name) for name in ("max_completion_tokens", "max_output_tokens", "max_tokens")]
    max_tokens = next((value for value in limits if isinstance(value, int) and value > 0), None)
    n, prompt = body.get("n"), body.get("prompt")
    choices = n if isinstance(n, int) and n > 0 else 1
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        choices *= len(prompt)
    return max_tokens, choices


async def _first_answer(model: RunningModel, call: ChargedCall) -> CallAnswer:
    """The whole answer, or that the replica has started a stream.

    Cancels the call if the client disconnects meanwhile.
    """
    try:
        async for item in call:
            if isinstance(item, CallAnswer):
                return item
        raise EngineError("The replica ended without an answer.")
    except Exception as e:
        raise _call_error(model, e) from e
    except BaseException:  # the client has disconnected
        await call.cancel()
        raise


async def _events(model: RunningModel, call: ChargedCall, measurement: RequestMeasurement) -> AsyncGenerator[str, None]:
    """The stream's events. If the replica dies, the last one is an error event, and there is no DONE_EVENT.

    Only events of a response have names, in a line before their data.
    """
    has_begun = False
    named_events = 0
    try:
        async for item in call:
            assert isinstance(item, CallEvents)
            if not has_begun:
                has_begun = True
                measurement.record_begin()
            named_events += item.text.startswith("event: ") + item.text.count("\nevent: ")
            if ends_stream(item.text):
                # Before it is sent: many clients disconnect when they have read it, which must not count as "cut".
                measurement.close("200")
            yield item.text
    except Exception as e:  # noqa: BLE001  # Ray's errors, or gRPC's: each becomes an error event
        error = _call_error(model, e)
        yield response_error_event(error, named_events) if named_events else error_event(error)


def _call_error(model: RunningModel, error: Exception) -> RequestError:
    """The error for a client whose call of the model failed."""
    if isinstance(error, BackPressureError):
        return OverloadedError(
            f"{model.description.model_id} is busy: its queue is full. Retry after {OverloadedError.retry_after_s} s.",
            code="overloaded",
        )
    logger.warning("%s failed: %s", model.application, error)
    return EngineError(f"{model.description.model_id}: the replica failed while it was answering. Retry the request.")
