"""Requests in flight in virtual time: an answer is to an earlier inference's observation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from vlacut.control.inferring.inference import Answer, Inference, Outlook
from vlacut.control.inferring.virtual import Course, Delayed


class Pipelined:
    """A `Runner` of a plan with several requests in flight (`Plan.warming`).

    An inference takes the time of a step, and its answer is to the observation of so many
    inferences ago. An episode begins with the pipeline full of its first observation, as if the
    robot had stood before the scene for so many steps.

    Args:
        make, course, outlook: see `Delayed`.
        warming: how many steps an action comes after its observation.
    """

    def __init__(
        self,
        make: Callable[[Inference, int], Mapping[str, np.ndarray]],
        course: Callable[[Inference, int], Course],
        outlook: Callable[[int], Outlook],
        warming: int,
    ) -> None:
        self._inner, self._made = Delayed(self._make, course, outlook), make
        self._begun: deque[Inference] = deque(maxlen=warming + 1)

    def _make(self, inference: Inference, variant: int) -> Mapping[str, np.ndarray]:
        return self._made(self._begun[0], variant)

    def start(self, inference: Inference, now_ns: int) -> None:
        """See `Runner`."""
        if not self._begun:
            self._begun.extend([inference] * (self._begun.maxlen or 1))
        self._begun.append(inference)
        self._inner.start(inference, now_ns)

    def answer(self, now_ns: int) -> Answer | None:
        """See `Runner`."""
        answer = self._inner.answer(now_ns)
        if answer is None or answer.action is None:
            return answer
        oldest = self._begun[0]
        seen = replace(answer.inference, observation=oldest.observation)
        return replace(answer, inference=seen, captured_ns=oldest.captured_ns)

    def outlook(self, now_ns: int) -> Outlook:
        """See `Runner`."""
        return self._inner.outlook(now_ns)
