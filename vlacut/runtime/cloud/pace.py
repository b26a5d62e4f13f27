"""A robot's engines as its thread has them: a run waits for its turn, and says when it is due."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlacut.backend import Tensor
from vlacut.runtime.cloud.asked import Asked
from vlacut.runtime.cloud.batches import Batches
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
        pace = self._pace
        asked = Asked(
            self._engine,
            inputs,
            pace.due_s,
            pace.after(self._name),
            pace.batches.get(self._name) if pace.stepping else None,
            pace.company,
        )
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
        due_s: when the step is due, by `time.monotonic`.
        stepping: whether a step has begun. What is run before is no robot's, and runs alone.
    """

    def __init__(
        self, company: object, batches: Mapping[str, Batches], predicted: Mapping[str, float]
    ) -> None:
        self.company, self.batches, self._predicted = company, batches, predicted
        self.due_s = float("inf")
        self.stepping = False
        self._left_s = 0.0

    def begin(self, due_s: float, parts: tuple[str, ...]) -> None:
        """A step begins that runs these parts, and is due then."""
        self.due_s, self.stepping = due_s, True
        self._left_s = sum(self._alone_s(name) for name in parts)

    def after(self, name: str) -> float:
        """Predicted seconds of what the step runs after a part, which runs now."""
        self._left_s = max(0.0, self._left_s - self._alone_s(name))
        return self._left_s

    def _alone_s(self, name: str) -> float:
        found = self.batches.get(name)
        return found.seconds[1] if found is not None else self._predicted[name]
