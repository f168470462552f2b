"""AliasCache: what the registry's aliases refer to, known also while the registry does not answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from serve_apps.processes.garbage_collection import freeze_loaded_objects
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.core.errors import RegistryError, RequestError

FRESH_S = 1.0
"""Seconds for which an answer of the registry is used without asking again."""

DEADLINE_S = 5.0
"""Seconds that a request waits for the registry."""

FIRST_DEADLINE_S = 30.0
"""Seconds that requests wait for the first answer, because MLflow must be imported and its database opened."""

MAX_ALIASES = 1024
"""Aliases that are kept; clients may ask for any name."""

logger = logging.getLogger(__name__)


class RegistryDownError(RequestError):
    """The registry does not answer, and did not answer for this alias before."""

    status_code = 503
    error_type = "server_error"


class AliasCache:
    """Reads aliases, each at most once per FRESH_S, and waits DEADLINE_S at most; then the last known version is used.

    `read` is called in a thread; it returns `name/version`, or None for an unknown alias. The deadlines replace
    DEADLINE_S and FIRST_DEADLINE_S.
    """

    def __init__(
        self,
        read: Callable[[str], str | None] | None = None,
        deadline_s: float = DEADLINE_S,
        first_deadline_s: float = FIRST_DEADLINE_S,
    ) -> None:
        reader = _RegistryReader()
        self._read = read or reader
        self._deadline_s = first_deadline_s
        self._later_deadline_s = deadline_s
        self._known: OrderedDict[str, tuple[float, str | None]] = OrderedDict()
        """By alias: when it was read, and its version."""
        self._reading: dict[str, asyncio.Future[str | None]] = {}
        # A thread of its own: reads that hang must not use up the threads of everything else.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="registry")
        if read is None:
            self._thread.submit(reader.open)  # imports MLflow, which takes longer than a request may wait

    async def version_of(self, alias: str) -> str | None:
        """`name/version` of an alias; None if the registry does not know it.

        Raises RegistryDownError if the registry does not answer in time, and never answered for this alias.
        """
        known = self._known.get(alias)
        if known is not None and time.monotonic() - known[0] < FRESH_S:
            return known[1]
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.shield(self._start_reading(alias))
        except Exception as e:  # MLflow raises whatever its store or its connection raises
            logger.warning("the registry does not answer for the alias %s: %s", alias, type(e).__name__)
            deadline_s, self._deadline_s = self._deadline_s, self._later_deadline_s
            if known is not None:
                # Asked again only after a while, so that requests do not wait the deadline each.
                self._remember(alias, known[1])
                return known[1]
            raise RegistryDownError(
                f"The registry did not answer in {deadline_s:g} s, so the alias {alias!r} is not known. Retry, "
                "or use the model's id or version.",
                param="model",
                code="registry_unavailable",
            ) from e

    def _start_reading(self, alias: str) -> asyncio.Future[str | None]:
        """The running reading of the alias, or a new one; its result is remembered even if nobody waits for it."""
        if alias not in self._reading:
            reading = asyncio.get_running_loop().run_in_executor(self._thread, self._read, alias)
            self._reading[alias] = reading
            reading.add_done_callback(lambda done: self._finish(alias, done))
        return self._reading[alias]

    def _finish(self, alias: str, reading: asyncio.Future[str | None]) -> None:
        del self._reading[alias]
        self._deadline_s = self._later_deadline_s
        if not reading.cancelled() and reading.exception() is None:
            self._remember(alias, reading.result())

    def _remember(self, alias: str, version: str | None) -> None:
        self._known[alias] = (time.monotonic(), version)
        self._known.move_to_end(alias)
        while len(self._known) > MAX_ALIASES:
            self._known.popitem(last=False)


class _RegistryReader:
    """Reads aliases from the registry, to which it connects at the first call."""

    def __init__(self) -> None:
        self._registry: ModelRegistry | None = None

    def open(self) -> ModelRegistry:
        """The registry."""
        if self._registry is None:
            self._registry = ModelRegistry()
            freeze_loaded_objects()
        return self._registry

    def __call__(self, alias: str) -> str | None:
        registry = self.open()
        try:
            found = registry.find(alias)
        except RegistryError:
            return None
        return f"{found.name}/{found.version}"
