"""One call of a model's replica: its size in tokens, its whole answer, and the error of a call that failed."""

from __future__ import annotations

import logging
from typing import Any

from ray.serve.exceptions import BackPressureError

from serve_apps.api.model_calls import CallAnswer
from serve_apps.gateway.charged_call import ChargedCall
from serve_apps.gateway.running_model import RunningModel
from tuneyard.core.errors import EngineError, OverloadedError, RequestError

logger = logging.getLogger(__name__)


def model_name(body: Any) -> str:
    """The model that a request's body names. Raises RequestError if it names none."""
    name = body.get("model") if isinstance(body, dict) else None
    if not isinstance(name, str):
        raise RequestError("Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    return name


def answer_size(path: str, body: dict[str, Any]) -> tuple[int | None, int]:
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


async def first_answer(model: RunningModel, call: ChargedCall) -> CallAnswer:
    """The whole answer, or that the replica has started a stream.

    Cancels the call if the waiting task is cancelled. Raises OverloadedError and EngineError.
    """
    try:
        async for item in call:
            if isinstance(item, CallAnswer):
                return item
        raise EngineError("The replica ended without an answer.")
    except Exception as e:
        raise call_error(model, e) from e
    except BaseException:  # the client has disconnected
        await call.cancel()
        raise


def call_error(model: RunningModel, error: Exception) -> RequestError:
    """The error for a client whose call of the model failed."""
    if isinstance(error, BackPressureError):
        return OverloadedError(
            f"{model.description.model_id} is busy: its queue is full. Retry after {OverloadedError.retry_after_s} s.",
            code="overloaded",
        )
    logger.warning("%s failed: %s", model.application, error)
    return EngineError(f"{model.description.model_id}: the replica failed while it was answering. Retry the request.")
