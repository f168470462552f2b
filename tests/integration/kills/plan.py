"""What happens in one part of the test, at random times: jobs and batches are created, wishes change, processes die."""

from __future__ import annotations

import functools
import random
import signal
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from serve_apps.platform_app.store.lease import LEASE_S
from tests.integration.kills.customers import Customer, NoAnswerError
from tests.integration.kills.scene import Scene
from tests.integration.kills.scripted_finetune import FAILING, REAL, SCRIPTED, seed_of

KINDS = (REAL, SCRIPTED, SCRIPTED, SCRIPTED, FAILING, SCRIPTED, REAL, SCRIPTED, SCRIPTED, SCRIPTED)
"""The jobs of a part: two real ones, one that fails by itself."""

KILLS = ("API", "reconciler", "driver", "driver", "API", "worker", "head", "driver", "reconciler")
OUTAGES: tuple[tuple[float, float, str | None], ...] = (
    (1, 5, None),
    (3, 8, "driver"),
    (LEASE_S, LEASE_S + 8, "API"),
    (LEASE_S, LEASE_S + 8, "reconciler"),
)
"""Of the database of a part with PostgreSQL: at least and at most so many seconds, and what else dies meanwhile. Those
that last longer than the reconciler's lease end its work."""

ENDS = (signal.SIGKILL, signal.SIGQUIT)
"""How the database ends: as in a crash, and as by `pg_ctl stop -m immediate`."""

DURATION_S = 90.0
"""Within this time everything of a part is to begin."""

Act = Callable[[], bool]
"""Something that a client or the killer does. Whether it is done; otherwise it is tried again."""


class Plan:
    """Acts, each with its time; the time begins with the plan."""

    def __init__(self, scene: Scene, part: int) -> None:
        self.scene = scene
        self._dice = dice = random.Random(part)
        self._started_at = time.monotonic()
        self._acts: list[tuple[float, Act]] = []
        for place, kind in enumerate(KINDS):
            customer = scene.customers[place % 2]
            creation = Creation(self, customer, seed_of(kind, part * len(KINDS) + place), dice)
            self.add(dice.uniform(0, DURATION_S / 2), creation.try_once)
        for customer in scene.customers:
            self.add(dice.uniform(0, 20), functools.partial(_create_batch, customer, f"batch-{part}"))
        kills = list(KILLS)
        dice.shuffle(kills)
        for place, what in enumerate(kills):
            self.add((place + dice.random()) * DURATION_S / len(kills), functools.partial(scene.kill, what))
        if scene.store.server is not None:
            self._add_outages(random.Random(f"outages {part}"))

    def _add_outages(self, dice: random.Random) -> None:
        outages = list(OUTAGES)
        dice.shuffle(outages)
        for place, (shortest_s, longest_s, also) in enumerate(outages):
            end, down_s = dice.choice(ENDS), dice.uniform(shortest_s, longest_s)
            act = functools.partial(self.scene.kill_database, end, down_s, also)
            self.add((place + dice.random()) * DURATION_S / len(outages), act)

    @property
    def is_done(self) -> bool:
        """Whether all has happened. What could not be killed for long, because none of it ran, is given up."""
        return not self._acts or self.now > 3 * DURATION_S

    @property
    def now(self) -> float:
        """Seconds since the plan was made."""
        return time.monotonic() - self._started_at

    def add(self, at_s: float, act: Act) -> None:
        """The act happens then, or as soon as the acts before it have ended."""
        self._acts.append((at_s, act))

    def do_next(self) -> bool:
        """Does the next act if its time has come. Whether there was one."""
        at_s, act = min(self._acts, key=lambda each: each[0])
        if at_s > self.now:
            return False
        self._acts.remove((at_s, act))
        try:
            is_done = act()
        except (NoAnswerError, DBAPIError):
            is_done = False
        if not is_done:
            self.add(self.now + 1, act)
        return True


class Creation:
    """The creation of a job, and what its owner wishes afterwards. In one of four times the API dies meanwhile; with
    PostgreSQL in one of the other times the database."""

    def __init__(self, plan: Plan, customer: Customer, seed: int, dice: random.Random) -> None:
        self._plan = plan
        self._customer = customer
        self._seed = seed
        self._kill: tuple[float, Callable[[], bool]] | None = None
        if dice.randrange(4) == 0:
            self._kill = dice.uniform(0, 0.1), functools.partial(plan.scene.kill, "API")
        elif plan.scene.store.server is not None and seed % 4 == 0:
            end, down_s = ENDS[seed // 4 % 2], 1.0 + seed % 5 / 2
            self._kill = seed % 10 / 100, functools.partial(plan.scene.kill_database, end, down_s)
        first, second = dice.uniform(0, 30), dice.uniform(0, 15)
        self._wishes = dice.choice(
            ([], [], [(first, "cancel")], [(first, "pause"), (first + second, "resume")], [(first, "pause")])
        )

    def try_once(self) -> bool:
        """Always True. Raises NoAnswerError."""
        kill, self._kill = self._kill, None
        timer = threading.Timer(*kill) if kill is not None else None
        if timer is not None:
            timer.start()
        try:
            job = self._customer.create_job(self._seed)
        finally:
            if timer is not None:
                timer.join()
        for after_s, wish in self._wishes:
            self._plan.add(self._plan.now + after_s, functools.partial(self._customer.wish, job, wish))
        return True


def _create_batch(customer: Customer, key: str) -> bool:
    customer.create_batch(key)
    return True
