"""Which models an API key may use, and under which name its data is stored."""

from __future__ import annotations

from tuneyard.api.api_keys import ApiKey
from tuneyard.core.errors import ModelNotFoundError


def owner_digest(key: ApiKey | None) -> str:
    """The name under which a key's data is stored: the digest of its secret; "" where no key is needed."""
    return key.sha256 if key is not None else ""


def is_restricted(key: ApiKey | None) -> bool:
    """Whether the key may use only some models; answers to it name no others."""
    return key is not None and bool(key.models)


def may_use(key: ApiKey | None, model: str) -> bool:
    """Whether requests with this key may use the model; None is a request that needs no key."""
    return key is None or not key.models or model in key.models


def hidden_model_error(name: str) -> ModelNotFoundError:
    """The error for a model that a key may not use: to this key it does not exist."""
    return ModelNotFoundError(
        f"The model {name!r} does not exist, or this key may not use it. GET /v1/models lists the models of the key.",
        param="model",
        code="model_not_found",
    )
