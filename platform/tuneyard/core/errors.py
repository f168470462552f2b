"""The tree of Tuneyard's exceptions.

    TuneyardError
    ├── ConfigError               a config file, field or `--set` option is wrong
    ├── DatasetError              a dataset file is missing, broken or unusable
    ├── CheckpointError           a checkpoint is missing, incomplete or does not match its manifest
    │   └── ParityError           a prompt is rendered differently in serving than in training
    ├── RegistryError             a model name, version or alias is unknown
    ├── ClusterError              Ray cannot be reached or its nodes can never hold the work
    ├── TrainingError             a training run failed or cannot be resumed
    ├── EvaluationError           a grader has no score for an answer
    ├── StorageError              an object store refuses a request or cannot be reached
    ├── StorageFullError          a disk or a quota is full
    ├── PortInUseError            a port is in use
    ├── MissingDependencyError    an optional package is not installed
    └── RequestError              an API request is wrong (carries OpenAI's error fields)
        ├── ModelNotFoundError    no such model
        ├── ResponseNotFoundError no such stored response or item
        ├── ObjectNotFoundError   no such file, job, batch, eval or vote
        ├── AuthenticationError   no valid API key
        ├── PermissionDeniedError the API key lacks the permission
        │   └── AdminKeyError     the route requires the admin key
        ├── RateLimitError        the API key is over a limit (has retry_after_s)
        │   └── QuotaError        the API key has used its budget of the month
        ├── OverloadedError       the queue is full (has retry_after_s)
        ├── StoreUnavailableError a database does not answer (has retry_after_s)
        ├── InsufficientStorageError  the server's disk is full
        ├── BodyTooLargeError     the request's body is over the size limit
        ├── BodyTimeoutError      the request's body did not arrive in time
        ├── MediaTypeError        the request's body is not declared as JSON
        ├── OriginError           the request comes from a web page of another site, or names another host
        ├── AnswerTimeoutError    the answer took longer than the time limit
        └── EngineError           the engine failed or stopped

A message says what is wrong, where, what was found and how to fix it. All exceptions can be pickled, because Ray
sends them between processes; one that cannot be pickled would arrive as a RayError without its message.
"""

from __future__ import annotations


class TuneyardError(Exception):
    """Base of all. Entry points print its message without a traceback and exit with code 1."""


class ConfigError(TuneyardError):
    """A config file, field or `--set` option is wrong."""


class DatasetError(TuneyardError):
    """A dataset file is missing, broken or unusable."""


class CheckpointError(TuneyardError):
    """A checkpoint is missing, incomplete or does not match its manifest."""


class ParityError(CheckpointError):
    """Serving renders a prompt differently than training did; the message shows the first different token."""


class RegistryError(TuneyardError):
    """A model name, version or alias is unknown."""


class ClusterError(TuneyardError):
    """Ray cannot be reached, or its nodes can never hold the work."""


class TrainingError(TuneyardError):
    """A training run failed or cannot be resumed."""


class EvaluationError(TuneyardError):
    """A grader has no score for an answer.

    `kind`: a `variable` is not defined, a `formula` has no value, the `model` does not answer, its `answer` is
    unusable, or `other`.
    """

    def __init__(self, message: str, kind: str = "other") -> None:
        super().__init__(message, kind)
        self.message = message
        self.kind = kind

    def __str__(self) -> str:
        return self.message


class StorageError(TuneyardError):
    """An object store refuses a request, or cannot be reached for longer than all retries take."""


class StorageFullError(TuneyardError):
    """A disk or a quota is full. No incomplete checkpoint is visible afterwards."""


class PortInUseError(TuneyardError):
    """A port that a server needs is in use."""


class MissingDependencyError(TuneyardError):
    """An optional package is not installed; the message names the package or the extra to install."""


class RequestError(TuneyardError):
    """An API request is wrong.

    Has the fields of OpenAI's error object: `error_type`, `param` (the dotted name of the wrong field, or None) and
    `code` (an identifier for programs, or None); and the HTTP `status_code`.
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
    """The request names a model that this server does not serve."""

    status_code = 404


class ResponseNotFoundError(RequestError):
    """The request names a stored response or item that this server does not have for the request's API key."""

    status_code = 404


class ObjectNotFoundError(RequestError):
    """The request names a file, job, batch, eval or vote that this server does not have for the request's API key."""

    status_code = 404

    def __init__(self, message: str, param: str | None = None, code: str | None = "not_found") -> None:
        super().__init__(message, param, code)


class AuthenticationError(RequestError):
    """The request has no valid API key."""

    status_code = 401


class PermissionDeniedError(RequestError):
    """The request's API key lacks the permission."""

    status_code = 403
    error_type = "permission_error"


class AdminKeyError(PermissionDeniedError):
    """The route is for administrators, and the request does not have their key."""


class RateLimitError(RequestError):
    """The request's API key is over one of its limits. `retry_after_s`: seconds until it is below the limit again."""

    status_code = 429
    error_type = "rate_limit_error"

    def __init__(self, message: str, param: str | None = None, code: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(message, param, code)
        self.args = (message, param, code, retry_after_s)
        self.retry_after_s = retry_after_s


class QuotaError(RateLimitError):
    """The request's API key has used its budget. `retry_after_s`: seconds until the budget renews."""

    error_type = "insufficient_quota"


class OverloadedError(RequestError):
    """The model's queue is full. `retry_after_s`: seconds to wait before the next try."""

    status_code = 503
    error_type = "server_error"
    retry_after_s = 1


class StoreUnavailableError(RequestError):
    """A database that the request needs does not answer, or fails. `retry_after_s`: seconds until the next try."""

    status_code = 503
    error_type = "server_error"
    retry_after_s = 5


class InsufficientStorageError(RequestError):
    """The disk where the request's content is to be stored is full."""

    status_code = 507
    error_type = "server_error"


class BodyTooLargeError(RequestError):
    """The request's body is over the size limit."""

    status_code = 413


class BodyTimeoutError(RequestError):
    """The request's body did not arrive in time."""

    status_code = 408
    error_type = "timeout_error"


class MediaTypeError(RequestError):
    """The request's body is not declared as JSON."""

    status_code = 415


class OriginError(RequestError):
    """The request comes from a web page of another site, or is addressed to a host that this server is not."""

    status_code = 403
    error_type = "permission_error"


class AnswerTimeoutError(RequestError):
    """The answer took longer than the time limit, which includes the time in the queue."""

    status_code = 504
    error_type = "timeout_error"


class EngineError(RequestError):
    """The engine failed, or stopped while the request was running."""

    status_code = 500
    error_type = "server_error"
