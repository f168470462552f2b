"""What happens in one part of the test, at random times: jobs and batches are created, wishes change, processes die."""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable

from tests.integration.kills.customers import Customer, NoAnswerError
from tests.integration.kills.scene import Scene
from tests.integration.kills.scripted_finetune import FAILING, REAL, SCRIPTED, seed_of

KINDS = (REAL, SCRIPTED, SCRIPTED, SCRIPTED, FAILING, SCRIPTED, REAL, SCRIPTED, SCRIPTED, SCRIPTED)
"""The jobs of a part: two real ones, one that fails by itself."""

KILLS = ("API", "reconciler", "driver", "driver", "API", "worker", "head", "driver", "reconciler")
DURATION_S = 90.0
"""Within this time everything of a part is to begin."""

Act = Callable[[], bool]
"""Something that a client or the killer does. Whether it is done; otherwise it is tried again."""


class Plan:
    """Acts, each with its time; the time begins with the plan."""

    def __init__(self, scene: Scene, part: int) -> None:
        self._scene = scene
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
        except NoAnswerError:
            is_done = False
        if not is_done:
            self.add(self.now + 1, act)
        return True

    def kill_api_after(self, delay_s: float) -> threading.Timer:
        """Kills the API while a request is on its way."""
        timer = threading.Timer(delay_s, self._scene.kill, ("API",))
        timer.start()
        return timer


class Creation:
    """The creation of a job, and what its owner wishes afterwards. In one of four times the API dies meanwhile."""

    def __init__(self, plan: Plan, customer: Customer, seed: int, dice: random.Random) -> None:
        self._plan = plan
        self._customer = customer
        self._seed = seed
        self._dies_after_s = dice.uniform(0, 0.1) if dice.randrange(4) == 0 else None
        first, second = dice.uniform(0, 30), dice.uniform(0, 15)
        self._wishes = dice.choice(
            ([], [], [(first, "cancel")], [(first, "pause"), (first + second, "resume")], [(first, "pause")])
        )

    def try_once(self) -> bool:
        """Always True. Raises NoAnswerError."""
        delay_s, self._dies_after_s = self._dies_after_s, None
        timer = self._plan.kill_api_after(delay_s) if delay_s is not None else None
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
