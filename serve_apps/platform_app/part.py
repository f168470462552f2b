"""Part: what files, fine-tuning jobs, batches, evals and votes each give to the application."""

from __future__ import annotations

from typing import Protocol

from fastapi import FastAPI

from serve_apps.keys.key_gate import KeyGate


class Part(Protocol):
    """Routes that read the store and write wishes to it; and the work on these wishes, in the reconciler.

    Many API processes have routes, and one reconciler at a time works: it holds the lease. It may die at any moment,
    and another one goes on from the store. Nothing that must survive is only in memory.
    """

    name: str
    """For messages, such as `files`."""

    def add_routes(self, api: FastAPI, gate: KeyGate) -> None:
        """Adds the routes to an API process' application."""

    async def reconcile(self, now: float) -> None:
        """One step of the work; called again a second after its end. `now` is Unix time in seconds.

        A step can be repeated: it is cancelled when the lease is lost, and may have ended anywhere. An exception is
        logged, and the step is tried again later, less and less often.
        """

    async def close(self) -> None:
        """Ends what a step has left running. Called when this process no longer works, also if it never did."""
