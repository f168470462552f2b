"""StrictConfig, the base of all config models, and the types of their fields that name places."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ValidationInfo

from tuneyard.core.home import absolute_path
from tuneyard.core.strict_model import FrozenModel

ENV_PREFIX = "env:"
"""`env:NAME` in place of a config's path: its text is the variable's."""


class StrictConfig(FrozenModel):
    """Base of all configs: unknown fields are errors, and values cannot change after loading."""


def resolved_path(value: object, info: ValidationInfo) -> object:
    """For validators: a path made absolute against the config file's folder.

    Ray moves workers to another working directory, so no relative path may outlive loading.
    """
    if not isinstance(value, str | Path):
        return value
    base = (info.context or {}).get("base_dir", Path.cwd())
    return str(absolute_path(value, Path(base)))


AbsolutePath = Annotated[Path, BeforeValidator(resolved_path)]
"""A path: relative to the config file; `$TUNEYARD_HOME` and `~` expand.

A `--set` path that starts with `./` or `../` is relative to the working directory.
"""


def without_password(uri: str) -> str:
    """The URI. Raises ValueError when it holds a password: configs are written into runs, manifests and logs."""
    parts = urlsplit(uri)
    if parts.password is not None:
        raise ValueError(
            f"the URI of {parts.scheme}://{parts.hostname} holds a password, which would be written wherever the "
            "location is. Give it in the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return uri


def _location(value: object, info: ValidationInfo) -> object:
    """A path made absolute; what names another place (`s3://…`, `hf:…`) is left as it is."""
    if isinstance(value, str) and ("://" in value or value.startswith("hf:")):
        return without_password(value)
    return resolved_path(value, info)


DataLocation = Annotated[str, BeforeValidator(_location)]
"""A file or folder (see AbsolutePath), a URI that pyarrow.fs knows, or `hf:owner/name[:split]`."""


def _config_location(value: object, info: ValidationInfo) -> object:
    return value if isinstance(value, str) and value.startswith(ENV_PREFIX) else resolved_path(value, info)


ConfigLocation = Annotated[str, BeforeValidator(_config_location)]
"""Another config: its file (see AbsolutePath), or `env:NAME`."""
