"""Keeps secrets out of what Ray shows of a job: finds them, and moves them into a package of the job."""

from __future__ import annotations

import importlib.util
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tuneyard.core.job_secrets import SECRETS_FILE, SECRETS_PACKAGE, load_job_secrets

SECRET_WORDS = ("TOKEN", "SECRET", "KEY", "PASSWORD", "PASSWD", "CREDENTIAL", "CONNECTION_STRING")
"""An environment variable with one of these words in its name is a secret as a whole."""

HIDDEN = "(set)"

_USER_INFO = re.compile(r"(?<!abfs:)(?<!abfss:)//[^/@\s?#'\"]+@|//[^/:@\s?#'\"]+:[^@\s'\"]*@")
"""Credentials in a URL. In abfss://container@account, no credentials stand before the @."""

_NAME = re.compile(r"(?<![\w.-])(?P<name>[\w.-]+)['\"]?\s*[=:]\s*")
_SECRET_NAME = re.compile(
    r"(^|[._-])((access|secret|api|private|account|admin|shared)[_-]?key([_-]?id)?|secret|token|passw(or)?d|pwd|"
    r"credentials?|sig|signature)$",
    re.IGNORECASE,
)
"""Names of parameters and fields that hold a secret: `secret_key`, `session_token`, but not `max_tokens`."""

_VALUE = re.compile(r"\"[^\"]*\"?|'[^']*'?|[^\s&'\",;}\]]+")
_KNOWN_KEY = re.compile(r"(?<![A-Za-z0-9])((AKIA|ASIA)[A-Z0-9]{16}|hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,})")
"""Keys of AWS, Hugging Face and OpenAI, which have a form of their own."""


def hide_in_text(text: str) -> str:
    """The text with credentials in URLs, values of secret parameters, and keys of known forms replaced."""
    text = _USER_INFO.sub(f"//{HIDDEN}@", text)
    pieces, position = [], 0
    for match in _NAME.finditer(text):
        if (
            match.start() >= position
            and _SECRET_NAME.search(match["name"])
            and (value := _VALUE.match(text, match.end()))
        ):
            pieces += [text[position : match.end()], HIDDEN]
            position = value.end()
    return _KNOWN_KEY.sub(HIDDEN, "".join([*pieces, text[position:]]))


def hide_variable(name: str, value: str) -> str:
    """The value of an environment variable, with every secret in it replaced."""
    return HIDDEN if any(word in name.upper() for word in SECRET_WORDS) else hide_in_text(value)


def holds_secret(text: str) -> bool:
    """Whether the text holds a secret, such as a URL with credentials."""
    return hide_in_text(text) != text


def hide_secrets(environment: Mapping[str, Any]) -> dict[str, Any]:
    """A runtime_env that is safe to print."""
    variables: dict[str, str] = environment["env_vars"]
    return {**environment, "env_vars": {name: hide_variable(name, value) for name, value in variables.items()}}


def pack_secrets(environment: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A runtime_env that is safe to submit: its secret variables are in a package that is written into `folder`.

    Ray uploads the package when the job is submitted, so the folder can be removed afterwards. Each process of the job
    sets the variables when it starts. Code that runs on the cluster can read the package; lists of jobs, the dashboard
    and Ray's logs do not show it.
    """
    variables: dict[str, str] = environment["env_vars"]
    secret = {name: value for name, value in variables.items() if hide_variable(name, value) != value}
    if not secret:
        return dict(environment)
    package = folder / SECRETS_PACKAGE
    package.mkdir(mode=0o700)
    (package / "__init__.py").write_text('"""Secrets of one job."""\n', encoding="utf-8")
    (package / SECRETS_FILE).write_text(json.dumps(secret), encoding="utf-8")
    # Ray names the upload by its hash, which must not let anyone check a guess.
    (package / "salt").write_text(secrets.token_hex(), encoding="utf-8")
    return {
        **environment,
        "py_modules": [*environment.get("py_modules", ()), str(package)],
        "worker_process_setup_hook": f"{load_job_secrets.__module__}.{load_job_secrets.__name__}",
        "env_vars": {name: value for name, value in variables.items() if name not in secret},
    }


def without_own_secrets(py_modules: Sequence[str]) -> list[str]:
    """The uploads of this process' runtime_env without the package of its own job: a job that it submits has another.

    Ray puts the first of two packages of one name first: the new job would get the variables of this one, its config
    among them.
    """
    spec = importlib.util.find_spec(SECRETS_PACKAGE)
    if spec is None or spec.origin is None:
        return list(py_modules)
    # Ray unpacks an upload into a folder of its name (2.60, `get_local_dir_from_uri`).
    upload = Path(spec.origin).parents[1].name
    return [uri for uri in py_modules if PurePosixPath(uri).stem != upload]
