"""A process that dies at a chosen moment, as by kill -9: between any two calls, and from then on does nothing more.

At another moment something else may happen, such as a client's request, which the process does not know of. Or its
database dies, and answers again some calls later.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.files.file_service import FileService
from serve_apps.platform_app.files.records import FileRecords
from serve_apps.platform_app.fine_tuning.building import TuningCluster
from tuneyard.core.errors import StoreUnavailableError


@dataclasses.dataclass
class Outage:
    """The database does not answer `lasts` calls, after `calls_left` that it answers."""

    calls_left: int
    lasts: int
    loses_answer: bool
    """Whether the transaction of the first of these calls has happened: the server died before it said so."""

    def begins_within_call(self) -> bool:
        """Counts a call. Whether its transaction happens, and its answer is lost. Raises StoreUnavailableError."""
        self.calls_left -= 1
        if self.calls_left >= 0 or self.calls_left < -self.lasts:
            return False
        if self.loses_answer:
            self.loses_answer = False
            return True
        raise StoreUnavailableError("The database does not answer.", code="store_unavailable")


class Killed(BaseException):
    """The process is dead. No code of the product can catch it by mistake."""


class Mortality:
    """Lets `calls_left` more calls begin or end; then the process is dead. None: it does not die."""

    def __init__(self, calls_left: int | None = None) -> None:
        self.calls_left = calls_left
        self.is_dead = False
        self.outage: Outage | None = None
        self._interruption: Callable[[Any], Awaitable[None]] | None = None
        self._call = ""

    def interrupt(self, call: str, interruption: Callable[[Any], Awaitable[None]] | None) -> None:
        """`interruption` happens once, at the next `call`: `before NAME` or `after NAME` of a method; None: nothing.

        It gets the first argument of that call.
        """
        self._call, self._interruption = call, interruption

    async def pass_one(self, call: str, arguments: Sequence[Any]) -> None:
        """Raises Killed if the process dies here, or is dead."""
        if call == self._call and (interruption := self._interruption) is not None:
            self._interruption = None
            await interruption(arguments[0] if arguments else None)
        if self.calls_left == 0:
            self.is_dead = True
        if self.is_dead:
            raise Killed
        if self.calls_left is not None:
            self.calls_left -= 1

    def mortal(self, target: Any) -> Any:
        """`target`, around whose asynchronous methods the process may die."""
        return _Mortal(target, self)

    def context(self, context: PlatformContext) -> PlatformContext:
        """The context of this process. Its database is called at once, in no thread."""
        database = _MortalDatabase(context.database, self)
        records = FileRecords(database, 2**40)  # type: ignore[arg-type]
        files = FileService(records, context.files.content)
        return dataclasses.replace(context, database=database, files=files)  # type: ignore[arg-type]

    def cluster(self, cluster: TuningCluster) -> TuningCluster:
        """The cluster as this process calls it."""
        parts = {field.name: self.mortal(getattr(cluster, field.name)) for field in dataclasses.fields(cluster)}
        return TuningCluster(**parts)


class _Mortal:
    def __init__(self, target: Any, mortality: Mortality) -> None:
        self._target = target
        self._mortality = mortality

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not inspect.iscoroutinefunction(value):
            return value

        async def call(*arguments: Any) -> Any:
            await self._mortality.pass_one(f"before {name}", arguments)
            result = await value(*arguments)
            await self._mortality.pass_one(f"after {name}", arguments)
            return result

        return call


class _MortalDatabase:
    def __init__(self, database: Any, mortality: Mortality) -> None:
        self._database = database
        self._mortality = mortality

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def run(self, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """See SqlDatabase.run. A transaction happens whole or not at all."""
        await self._mortality.pass_one(f"before {call.__name__}", arguments)
        is_lost = self._mortality.outage is not None and self._mortality.outage.begins_within_call()
        result = call(*arguments, **keywords)
        if is_lost:
            raise StoreUnavailableError("The database does not answer any more.", code="store_unavailable")
        await self._mortality.pass_one(f"after {call.__name__}", arguments)
        return result
