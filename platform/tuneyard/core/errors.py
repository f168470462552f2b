"""Every error that Tuneyard raises on purpose.

    TuneyardError
    ├── ConfigError               a config file, field or `--set` option is wrong
    ├── DatasetError              a dataset file is missing, broken or unusable
    ├── CheckpointError           a checkpoint is missing, incomplete or not what it says
    │   └── ParityError           a served prompt is not the one of training
    ├── RegistryError             a model name, version or alias is unknown
    ├── ClusterError              Ray cannot be reached or can never place the work
    ├── TrainingError             a training run failed or cannot be resumed
    ├── StorageError              an object store refuses, or stays away
    ├── StorageFullError          there is no room for a checkpoint
    ├── PortInUseError            a port is taken
    ├── MissingDependencyError    an optional package is not installed
    └── RequestError              an API request is wrong (carries OpenAI's error fields)
        ├── ModelNotFoundError    no such model
        ├── AuthenticationError   no valid API key
        ├── PermissionDeniedError the key may not do this
        │   └── AdminKeyError     the route wants the admin key
        ├── RateLimitError        over one of the key's limits (says when to try again)
        ├── OverloadedError       the server has more to do than it can queue (the same)
        ├── BodyTooLargeError     the request's body is over the limit
        ├── AnswerTimeoutError    the answer took longer than the server gives one
        └── EngineError           the engine failed or is gone

A message says what, where, what was found and the fix. All errors pickle: Ray carries them
between processes, and an exception that does not pickle surfaces as a useless RayError.
"""

from __future__ import annotations


class TuneyardError(Exception):
    """The root. Entry points print its message without a traceback and exit with 1."""


class ConfigError(TuneyardError):
    """A config file, field or `--set` option is wrong."""


class DatasetError(TuneyardError):
    """A dataset file is missing, broken or unusable."""


class CheckpointError(TuneyardError):
    """A checkpoint is missing, incomplete or not what its manifest says."""


class ParityError(CheckpointError):
    """A prompt as served differs from the prompt as trained; the message shows the first differing token."""


class RegistryError(TuneyardError):
    """A model name, version or alias is unknown."""


class ClusterError(TuneyardError):
    """Ray cannot be reached, or can never place the work."""


class TrainingError(TuneyardError):
    """A training run failed or cannot be resumed."""


class StorageError(TuneyardError):
    """An object store refuses, or stays away for longer than we wait."""


class StorageFullError(TuneyardError):
    """There is no room for a checkpoint; nothing half-written is left visible."""


class PortInUseError(TuneyardError):
    """A port that a server needs is taken."""


class MissingDependencyError(TuneyardError):
    """An optional package is not installed; the message names the extra that holds it."""


class RequestError(TuneyardError):
    """An API request is wrong.

    Carries what OpenAI's error object carries: `status_code` (HTTP), `error_type`, `param`
    (the field at fault, dotted, or None) and `code` (a word for programs, or None).
    """

    status_code = 400
    error_type = "invalid_request_error"

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, param, code)
        self.message = message
        self.param = param
        self.code = code

    def __str__(self) -> str:
        return self.message


class ModelNotFoundError(RequestError):
    """The request names a model that is not served here."""

    status_code = 404


class AuthenticationError(RequestError):
    """The request carries no valid API key."""

    status_code = 401


class PermissionDeniedError(RequestError):
    """The request's key may not do this."""

    status_code = 403
    error_type = "permission_error"


class AdminKeyError(PermissionDeniedError):
    """The route is for administrators, and the request does not carry their key."""


class RateLimitError(RequestError):
    """The request is over one of its key's limits; `retry_after_s` says when there is room again."""

    status_code = 429
    error_type = "rate_limit_error"

    def __init__(self, message: str, param: str | None = None, code: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(message, param, code)
        self.args = (message, param, code, retry_after_s)
        self.retry_after_s = retry_after_s


class OverloadedError(RequestError):
    """The model's queue is full; `retry_after_s` says when to try again."""

    status_code = 503
    error_type = "server_error"
    retry_after_s = 1


class BodyTooLargeError(RequestError):
    """The request's body is over the limit."""

    status_code = 413


class AnswerTimeoutError(RequestError):
    """The answer took longer than the server gives one, waiting included."""

    status_code = 504
    error_type = "timeout_error"


class EngineError(RequestError):
    """The engine failed, or stopped while the request was running."""

    status_code = 500
    error_type = "server_error"
