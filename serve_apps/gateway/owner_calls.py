"""OwnerCalls: requests to models for work that runs after its own HTTP request has ended: batches, graders.

The work is charged to the key that it was requested with, which nobody has at hand any more: its secret is not stored.
So the calls are made inside the process that knows the keys, over Serve handles. There is no request that could be
forged, and no secret that would open every key's data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serve_apps.api.call_origin import CallOrigin
from serve_apps.api.model_calls import CallAnswer
from serve_apps.gateway.charged_call import ChargedCall
from serve_apps.gateway.model_call import answer_size, first_answer, model_name
from serve_apps.gateway.model_directory import ModelDirectory
from serve_apps.gateway.running_model import RunningModel
from serve_apps.http_front.admission import reserved_tokens
from serve_apps.http_front.body_limits import text_length
from serve_apps.keys.key_gate import KeyGate
from serve_apps.keys.model_scope import hidden_model_error, is_restricted, may_use
from serve_apps.tracing.request_id import working_for
from serve_apps.tracing.span import NO_SPAN
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.wire.errors import error_body
from tuneyard.core.errors import ModelNotFoundError, OverloadedError, RequestError


@dataclass(frozen=True, slots=True)
class OwnerCalls:
    """Calls of the models in `directory`, for the owners of stored work; see owner_digest."""

    directory: ModelDirectory
    gate: KeyGate

    async def find(self, owner: str, name: str) -> RunningModel:
        """The model that the owner may use by this name.

        Raises ModelNotFoundError, and AuthenticationError if the owner's key is no longer valid.
        """
        key = self.gate.find_owner(owner)
        try:
            model = await self.directory.find(name, owner)
        except ModelNotFoundError as e:
            raise (hidden_model_error(name) if is_restricted(key) else e) from e
        if model.owner is None and not may_use(key, model.description.model_id):
            raise hidden_model_error(name)
        return model

    async def complete(
        self, owner: str, path: str, body: dict[str, Any], *, request_id: str = "", is_background: bool = False
    ) -> CallAnswer:
        """The whole answer to a request at `path`, one of model_calls.PATHS; an error of any kind is an answer too.

        `is_background`: the replica answers only on idle capacity, and with status 503 without it. Such an answer is
        charged as a whole, and one with status 503 not at all. Cancelling the call aborts it in the replica.
        """
        try:
            return await self._complete(owner, path, body, request_id, is_background=is_background)
        except RequestError as e:
            return CallAnswer(e.status_code, error_body(e))

    async def _complete(
        self, owner: str, path: str, body: dict[str, Any], request_id: str, *, is_background: bool
    ) -> CallAnswer:
        model = await self.find(owner, model_name(body))
        grant = await self.gate.admit_deferred(owner)
        try:
            name = model.description.model_id
            max_tokens, choices = answer_size(path, body)
            await grant.reserve(name, reserved_tokens(text_length(body), max_tokens, choices), choices)
            used = _Sum()
            with working_for(request_id):
                origin = CallOrigin.of_current_request(NO_SPAN, is_background=is_background)
            items = model.handle.options(stream=True).complete.remote(path, body | {"model": name}, owner, origin)
            answer = await first_answer(model, ChargedCall(items, used.add if is_background else grant.charge, NO_SPAN))
            if answer.status != OverloadedError.status_code:
                grant.charge(used.counts)
            return answer
        finally:
            await grant.close()


class _Sum:
    """Counts that are charged later."""

    def __init__(self) -> None:
        self.counts = UsageCounts()

    def add(self, counts: UsageCounts) -> None:
        self.counts += counts
