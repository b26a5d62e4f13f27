"""Inferences in virtual time: made at once, and delivered after the time they would have taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from vlacut.control.inferring.inference import Answer, Inference, Outlook


class Course(NamedTuple):
    """How an inference goes.

    Attributes:
        variant: index that runs.
        seconds: from asking to its action.
        error: why it fails after that time; empty if it does not.
    """

    variant: int
    seconds: float
    error: str = ""


class Delayed:
    """A `Runner` without threads.

    Args:
        make: the action of an inference by a variant, by name.
        course: how an inference that is asked for at a time, in nanoseconds, goes.
        outlook: how long the next one will take, as far as the robot could know at a time.
    """

    def __init__(
        self,
        make: Callable[[Inference, int], Mapping[str, np.ndarray]],
        course: Callable[[Inference, int], Course],
        outlook: Callable[[int], Outlook],
    ) -> None:
        self._make, self._course, self._outlook = make, course, outlook
        self._under_way: tuple[Inference, Course, int] | None = None

    def start(self, inference: Inference, now_ns: int) -> None:
        """See `Runner`."""
        course = self._course(inference, now_ns)
        self._under_way = inference, course, now_ns + max(1, round(course.seconds * 1e9))

    def answer(self, now_ns: int) -> Answer | None:
        """See `Runner`."""
        if self._under_way is None or now_ns < self._under_way[2]:
            return None
        inference, course, _ = self._under_way
        self._under_way = None
        if course.error:
            return Answer(inference, None, course.error, variant=course.variant)
        return Answer(
            inference,
            self._make(inference, course.variant),
            captured_ns=inference.captured_ns,
            variant=course.variant,
            seconds=course.seconds,
        )

    def outlook(self, now_ns: int) -> Outlook:
        """See `Runner`."""
        return self._outlook(now_ns)
