"""The store of API keys that a deployment requires."""

from __future__ import annotations

from tuneyard.api.api_keys import KeyStore
from tuneyard.configs.serve import HttpConfig
from tuneyard.core.errors import ConfigError


def required_key_store(http: HttpConfig) -> KeyStore | None:
    """The store of API keys; None if requests need no key. Raises ConfigError if keys are required and none exist."""
    if not http.requires_keys:
        return None
    store = KeyStore()
    if not store.list_keys():
        raise ConfigError(
            f"http.host is {http.host}, and there are no API keys: every request would be refused. Create a key: "
            "tuneyard keys create NAME. Only an API on 127.0.0.1 may run without keys."
        )
    return store
