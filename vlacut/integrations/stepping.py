"""Stepping: a client of a foreign wire gets an action for every observation.

Clients of these wires take an error as the end: openpi's never connects again. So a step that fails
gives the last action again and says so; only an observation that is wrong, or a first step that
cannot be made, is an error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vlacut.errors import DeadlineMissed, InputError, PeerLost, PeerUnable, VlacutError
from vlacut.runtime.edge.report import Source, StepReport
from vlacut.runtime.edge.session import EdgeSession

_PAUSE_S = 0.05  # before a first step that failed is tried again
_log = logging.getLogger("vlacut.edge")


@dataclass(frozen=True)
class Stepped:
    """An action, and where it comes from.

    Attributes:
        action: by name.
        report: of the step; None where it failed.
        failed: why it failed, and this is the last action again; empty if it did not.
        age_s: seconds from the capture of the observation behind the action until it was there.
        since_s: seconds since the action was first returned; 0 where it is a new one.
    """

    action: dict[str, np.ndarray]
    report: StepReport | None
    failed: str
    age_s: float
    since_s: float

    @property
    def stale(self) -> bool:
        """Whether it is the action of an earlier step again."""
        return self.report is None or self.report.source is Source.STALE


class Stepper:
    """Makes the steps of a session, for one thread at a time.

    Args:
        session: an edge's; `close` of this is its owner's.
    """

    def __init__(self, session: EdgeSession) -> None:
        self._session = session
        self._last: dict[str, np.ndarray] | None = None
        self._captured_ns = self._made_ns = 0
        self._failing = ""

    def reset(self) -> None:
        """Begin an episode: no action of the last one is given again by this."""
        self._session.reset()
        self._last = None

    def step(
        self,
        observation: Mapping[str, np.ndarray],
        captured_ns: int,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Stepped:
        """The action for an observation.

        Args:
            observation: by input of the bundle.
            captured_ns: when it was captured, on `time.perf_counter_ns`.
            wanted: whether somebody still waits for it: a first action may take until there is a
                cloud, and is tried again until then.

        Raises InputError where the observation is wrong, and what a first step raised that would
        fail again, or that nobody waits for any more.
        """
        while True:
            try:
                action = self._session.step(observation, captured_ns)
            except InputError:
                raise
            except VlacutError as error:
                self._note(str(error))
                if self._last is not None:
                    return self._again(self._last, str(error))
                if not isinstance(error, (DeadlineMissed, PeerLost, PeerUnable)) or not wanted():
                    raise
                time.sleep(_PAUSE_S)
                continue
            self._note("")
            return self._made(action)

    def _made(self, action: dict[str, np.ndarray]) -> Stepped:
        report, now = self._session.last, time.perf_counter_ns()
        if report.source is not Source.STALE or self._last is None:
            self._made_ns = now
        self._last, self._captured_ns = action, report.made.captured_ns
        return Stepped(action, report, "", report.age_s, (now - self._made_ns) * 1e-9)

    def _again(self, action: dict[str, np.ndarray], why: str) -> Stepped:
        now = time.perf_counter_ns()
        age_s, since_s = (now - self._captured_ns) * 1e-9, (now - self._made_ns) * 1e-9
        return Stepped(action, None, why, age_s, since_s)

    def _note(self, failing: str) -> None:
        """Say once that steps fail, or do no longer."""
        if failing and not self._failing:
            _log.warning("steps fail, and clients get the last action again: %s", failing)
        elif self._failing and not failing:
            _log.info("steps succeed again")
        self._failing = failing
