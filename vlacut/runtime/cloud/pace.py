"""A robot's engines as its thread has them: a run waits for its turn, and says when it is due."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vlacut.backend import Tensor
from vlacut.runtime.cloud.asked import Asked
from vlacut.runtime.cloud.batches import Batches
from vlacut.runtime.cloud.habits import Habit
from vlacut.runtime.cloud.turns import Turns


class SharedEngine:
    """A robot's engine, whose runs wait for their turn.

    Args:
        name: of the part.
        engine: the robot's own.
        turns: of the server.
        pace: of the robot's steps.
    """

    def __init__(self, name: str, engine: Any, turns: Turns, pace: Pace) -> None:
        self._name, self._engine, self._turns, self._pace = name, engine, turns, pace
        self.take = getattr(engine, "take", None)  # needs no turn: it only copies
        self.device_ns = 0

    def run(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """See `vlacut.backend.Engine`."""
        asked = self._pace.asked(self._name, self._engine, inputs)
        made = self._turns.run(asked)
        self.device_ns = asked.device_ns
        return made


class Pace:
    """When a robot's step is due, and what of it the cloud has still to run.

    Args:
        company: what robots of one bundle have in common.
        batches: of its parts, by name.
        predicted: seconds of its parts, by name, where they have no batches, which were timed.

    Attributes:
        habit: how long the robot pauses between runs.
    """

    def __init__(
        self, company: object, batches: Mapping[str, Batches], predicted: Mapping[str, float]
    ) -> None:
        self.habit = Habit()
        self._company, self._batches, self._predicted = company, batches, predicted
        self._due_s = math.inf
        self._parts: tuple[str, ...] = ()  # what is run before a step is no robot's, and runs alone
        self._place = 0
        self._left_s = 0.0

    def begin(self, due_s: float, parts: tuple[str, ...]) -> None:
        """A step begins that runs these parts, and is due then, by `time.monotonic`."""
        self._due_s, self._parts, self._place = due_s, parts, 0
        self._left_s = sum(map(self._alone_s, parts))

    def asked(self, name: str, engine: Any, inputs: Mapping[str, Tensor]) -> Asked:
        """What the robot asks for as it runs a part."""
        if not self._parts:
            return Asked(engine, inputs, self._due_s, 0.0, company=self._company)
        self._place += 1
        then = self._parts[self._place % len(self._parts)]  # after the last, another step's first
        self._left_s = max(0.0, self._left_s - self._alone_s(name))
        return Asked(
            engine,
            inputs,
            self._due_s,
            self._left_s,
            self._batches.get(name),
            self._company,
            self.habit,
            (name, then),
            self._batches.get(then),
        )

    def _alone_s(self, name: str) -> float:
        found = self._batches.get(name)
        return found.seconds[1] if found is not None else self._predicted[name]
