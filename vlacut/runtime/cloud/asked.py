"""What a robot asks the engines of a server for, alone or with others, and how it is run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vlacut.backend import Tensor
from vlacut.runtime.cloud.batches import Batches
from vlacut.runtime.cloud.habits import Between, Habit

_SOON_S = 1.0  # in which who has no deadline counts as due


@dataclass(eq=False)
class Asked:
    """A run that a robot asks for.

    Attributes:
        engine: the robot's own.
        inputs: of the part.
        due_s: when the step is due, by `time.monotonic`; infinite without a deadline.
        after_s: predicted seconds of what the cloud has to run in the step after this.
        batches: the part's; None if it has none.
        company: what the robots of a bundle have in common.
        habit: the robot's; None of what is no robot's run in a step.
        between: its part, and the one that the robot asks for next.
        then: batches of that; None if it has none.
        asked_s: when it was asked for.
        passed: turns of others who asked later.
        leads: whether it has the turn.
        made, error: what became of it.
        share_s: seconds of the run that count for this robot.
        device_ns: as `vlacut.backend.OpenEngine` has it.
    """

    engine: Any
    inputs: Mapping[str, Tensor]
    due_s: float
    after_s: float
    batches: Batches | None = None
    company: object = None
    habit: Habit | None = None
    between: Between = ("", "")
    then: Batches | None = None
    asked_s: float = field(default_factory=time.monotonic)
    passed: int = 0
    leads: bool = False
    made: Mapping[str, Tensor] = field(default_factory=dict)
    error: Exception | None = None
    share_s: float = 0.0
    device_ns: int = 0
    called: threading.Event = field(default_factory=threading.Event)

    @property
    def latest_s(self) -> float:
        """When it must have ended, for the step to be in time."""
        return self.due_s - self.after_s

    @property
    def rank(self) -> tuple[float, float]:
        """Least first."""
        return min(self.due_s, self.asked_s + _SOON_S), self.asked_s


class Work:
    """Something that runs as an engine does."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def run(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        self._work()
        return {}


def run_all(members: list[Asked]) -> None:
    """Run them together; if that fails each alone, so that who is at fault fails alone."""
    if len(members) > 1:
        batches = members[0].batches
        assert batches is not None
        try:
            batches.run(members)
        except Exception as error:  # whatever the engine raised is raised again for whom it is
            _run_each(members)
            batches.note_failure(members, error)
    else:
        _run_each(members)


def _run_each(members: list[Asked]) -> None:
    for one in members:
        start = time.monotonic()
        try:
            one.made = one.engine.run(one.inputs)
            one.device_ns = getattr(one.engine, "device_ns", 0)
        except Exception as error:  # it is the robot's own
            one.error = error
        else:
            if one.batches is not None:
                one.batches.note(1, time.monotonic() - start)
