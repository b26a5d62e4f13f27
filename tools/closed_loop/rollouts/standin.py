"""A session that takes a full-size bundle's time, and gives the bench's policy's actions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vlacut.control.report import Route, routes_of
from vlacut.emulation.observation import planned_observation
from vlacut.plans.plan import Plan
from vlacut.runtime.closing import Closing
from vlacut.runtime.edge.report import StepReport
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.network.selectors import Forecast

from .acts import Acts


class Standin(Closing):
    """A session that takes its own time, and gives another policy's actions.

    Args:
        session: of the full-size bundle, with emulated devices.
        policy: whose actions are given.

    Attributes:
        ran: route and seconds of every inference.
        late_s: the longest that the policy took beyond the session.
    """

    def __init__(self, session: EdgeSession, policy: Acts) -> None:
        self._session, self._policy = session, policy
        self._seen = planned_observation(session.plan)
        self._beside = ThreadPoolExecutor(1)
        self._routes = routes_of(session.plan)
        self.ran: list[tuple[Route, float]] = []
        self.late_s = 0.0

    def close(self) -> None:
        """End the policy's thread, after what it makes; the session stays open."""
        self._beside.shutdown()

    @property
    def plan(self) -> Plan:
        """Of the full-size bundle."""
        return self._session.plan

    @property
    def last(self) -> StepReport:
        """Of the session."""
        return self._session.last

    def forecast(self) -> Forecast:
        """Of the session."""
        return self._session.forecast()

    def reset(self) -> None:
        """Begin another episode."""
        self._session.reset()

    def step(
        self, observation: Mapping[str, np.ndarray], captured_ns: int, variant: int | None
    ) -> Mapping[str, np.ndarray]:
        """The policy's actions, made meanwhile, once the session has its own."""
        began = time.perf_counter()
        made = self._beside.submit(self._policy.act, observation)
        self._session.step(self._seen, captured_ns, variant)
        over = time.perf_counter()
        names = [one.name for one in self.plan.variants]
        self.ran.append((self._routes[names.index(self.last.variant)], over - began))
        actions = made.result()
        self.late_s = max(self.late_s, time.perf_counter() - over)
        return actions
