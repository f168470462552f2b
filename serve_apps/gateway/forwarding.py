"""Forwards a request to the replicas of its model, and their answer or stream to the client."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from serve_apps.api.call_origin import CallOrigin
from serve_apps.api.model_calls import CallEvents
from serve_apps.gateway.charged_call import ChargedCall
from serve_apps.gateway.metrics import RequestMeasurement
from serve_apps.gateway.model_call import answer_size, call_error, first_answer, model_name
from serve_apps.gateway.model_directory import ModelDirectory
from serve_apps.gateway.running_model import RunningModel
from serve_apps.http_front.admission import authorization_header, reserve_tokens
from serve_apps.http_front.bodies import read_json
from serve_apps.http_front.events import EventStreamResponse, ends_stream, error_event, response_error_event
from serve_apps.keys.grant import Grant
from serve_apps.keys.key_gate import KeyGate
from serve_apps.keys.model_scope import hidden_model_error
from serve_apps.tracing.span import NO_SPAN, current_span
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import ModelNotFoundError


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
            if model.owner is None:  # a key's own models need not be named by it
                grant.check_model(model.description.model_id, body["model"])
            # The replica knows its model by id only; the client may have used a version or an alias.
            body["model"], measurement.model = model.description.model_id, model.label
            await reserve_tokens(grant, request, model.description.model_id, *answer_size(path, body))
            calls = model.handle.options(stream=True)
            is_stream = body.get("stream") is True and path.startswith("/v1/")
            trace.set("gen_ai.request.model", model.description.model_id)
            forwarding = trace.start("forward")
            origin = CallOrigin.of_current_request(forwarding)
            items = (calls.stream if is_stream else calls.complete).remote(path, body, grant.owner, origin)
            call = ChargedCall(items, grant.charge, trace)
            answer = await first_answer(model, call)
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
        name = model_name(body)
        try:
            return await self.directory.find(name, grant.owner)
        except ModelNotFoundError as e:
            # Its message lists all models that run.
            raise (hidden_model_error(name) if grant.is_restricted else e) from e


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
        error = call_error(model, e)
        yield response_error_event(error, named_events) if named_events else error_event(error)
