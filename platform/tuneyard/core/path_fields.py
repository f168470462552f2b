"""Types of config fields that hold a path, a data location or another config's location."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import BeforeValidator, ValidationInfo

from tuneyard.core.home import absolute_path

ENV_PREFIX = "env:"
"""Prefix of `env:NAME`, which can replace a config's path: the environment variable NAME then holds the YAML text."""


def resolve_path(value: object, info: ValidationInfo) -> object:
    """A path as absolute text, relative to the config file's folder; any other value unchanged. For validators.

    Ray starts workers in another working directory, so configs must not keep relative paths.
    """
    if not isinstance(value, str | Path):
        return value
    base = (info.context or {}).get("base_dir", Path.cwd())
    return str(absolute_path(value, Path(base)))


AbsolutePath = Annotated[Path, BeforeValidator(resolve_path)]
"""A path, relative to the config file. Environment variables and `~` are expanded; `$TUNEYARD_HOME` has a default.

A path that `--set` gives and that starts with `./` or `../` is relative to the working directory.
"""


SECRET_PARAMETERS = (
    "access_key",
    "secret_key",
    "session_token",
    "sas_token",
    "sig",
    "password",
    "token",
    # libpq's: of a client certificate's key, and of OAuth. redis-py's for such a key.
    "sslpassword",
    "ssl_password",
    "oauth_client_secret",
    # Of a service principal, which pyarrow.fs takes in abfss://.
    "client_secret",
)
"""Query parameters of a URI that hold a secret."""


def holds_secret(uri: str) -> bool:
    """Whether a URI holds a password, in its authority or as a parameter; True for what looks like one but is none."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # such as a host that begins with a bracket
        return "@" in uri or "?" in uri
    return parts.password is not None or bool(set(parse_qs(parts.query)) & set(SECRET_PARAMETERS))


def reject_password(uri: str) -> str:
    """The URI unchanged. Raises ValueError if it holds a password or a key, because configs are copied into logs."""
    parts = urlsplit(uri)
    is_key = parts.scheme == "s3" and parts.username is not None
    if is_key or holds_secret(uri):
        raise ValueError(
            f"the URI of {parts.scheme}://{parts.hostname} holds a password or an access key, which would be copied "
            "into runs, manifests and logs. Set them in the environment instead: AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY; on Azure AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
        )
    return uri


def _resolve_data_location(value: object, info: ValidationInfo) -> object:
    """URIs and `hf:` names unchanged; paths made absolute."""
    if isinstance(value, str) and ("://" in value or value.startswith("hf:")):
        return reject_password(value)
    return resolve_path(value, info)


DataLocation = Annotated[str, BeforeValidator(_resolve_data_location)]
"""A file, folder or pattern (see AbsolutePath), a URI that pyarrow.fs supports, or `hf:owner/name[#config][:split]`."""


def _resolve_config_location(value: object, info: ValidationInfo) -> object:
    return value if isinstance(value, str) and value.startswith(ENV_PREFIX) else resolve_path(value, info)


ConfigLocation = Annotated[str, BeforeValidator(_resolve_config_location)]
"""The YAML file of another config (see AbsolutePath), or `env:NAME`."""
