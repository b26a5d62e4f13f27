"""Controllers against each other, over the same episodes and bandwidths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from vlacut.control.controllers.naming import make_controller
from vlacut.control.controllers.priced import COSTS
from vlacut.control.cycle import Cycle
from vlacut.control.executors import ASYNC
from vlacut.control.naming import make_executor
from vlacut.control.recording.episodes import Episodes
from vlacut.control.report import Route, routes_of
from vlacut.control.signals.motion import UNFITTED
from vlacut.control.tables import ActionTables
from vlacut.control.ways.playing import make_playing
from vlacut.control.ways.starving import HOLD, Starving
from vlacut.errors import Progress, unwatched
from vlacut.hardware import Link
from vlacut.hardware.trace import Trace
from vlacut.plans.plan import CHOSEN, Plan
from vlacut.runtime.network.predictors import Predictor, make_predictor
from vlacut.runtime.network.selectors import make_selector
from vlacut.simulation.forecasting import ByForecast
from vlacut.simulation.loop import network_of, walks_of
from vlacut.simulation.looped.course import Simulated
from vlacut.simulation.looped.hindsight import Best, Episode, best_within
from vlacut.simulation.looped.playing import Played, added_by, play
from vlacut.simulation.looped.recorded import Recorded, make_recorded
from vlacut.simulation.walk import SimulatedLink, StepWalk

_INTERVAL_S = 0.1


@dataclass(frozen=True)
class LoopRow:
    """A controller over all episodes.

    Attributes:
        controller: its name.
        played: what it did.
        best: the best decisions in hindsight that cost no more.
    """

    controller: str
    played: Played
    best: Best

    @property
    def regret(self) -> float:
        """Mean error of a command above that of the best decisions of no more cost."""
        return self.played.error - self.best.error / len(self.played.errors)


@dataclass(frozen=True)
class LoopComparison:
    """What to run.

    Attributes:
        plan: of the bundle.
        episodes: with the chunk of every tick.
        trace: rates of the wire up, from the first episode's first tick on.
        link: round trip, and ratio of the downlink.
        tables: of action errors, if there are any.
        executor, playing, starve: see `vlacut.control.loop.ControlLoop`.
        selector: of the session, which chooses where the controller does not.
        predictor: of the bandwidth, which is sampled every 0.1 s.
        minimise: what costs, see `vlacut.control.controllers.priced.COSTS`.
        options: of controllers, by name.
    """

    plan: Plan
    episodes: Episodes
    trace: Trace | None
    link: Link
    tables: ActionTables | None = None
    executor: str = ASYNC
    playing: str = ""
    starve: str = HOLD
    selector: str = CHOSEN
    predictor: str = "ewma"
    minimise: str = "compute"
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def run(
        self,
        controllers: Sequence[str],
        progress: Progress = unwatched,
    ) -> tuple[LoopRow, ...]:
        """Every controller, and the best decisions at its cost. Raises InputError."""
        rows = []
        for done, name in enumerate(controllers):
            progress(name, done, len(controllers))
            played = self.play(name)
            cost = sum(self._costs[variant] for _, variant, _ in played.ran)
            rows.append(LoopRow(name, played, best_within(self._known, cost)))
        return tuple(rows)

    def play(self, name: str) -> Played:
        """One controller."""
        recorded, period_s = self._recorded, self.episodes.period_s
        reader = recorded.reader
        executor = make_executor(self.executor, {})
        runner = Simulated(
            self.plan,
            self._walks,
            self._network,
            self._knows(),
            reader.spec.output,
            recorded.chunks,
        )
        options = self.options.get(name, {})
        cycle = Cycle(
            reader,
            runner,
            self._routes,
            executor,
            make_playing(self.playing or executor.playing, reader),
            make_controller(name, self._routes, tables=self.tables, **options),
            Starving(self.starve, reader),
            period_s,
        )
        return play(recorded, cycle, runner, self._routes, self.tables)

    def _knows(self) -> ByForecast:
        def make() -> Predictor:
            return make_predictor(self.predictor)

        selector = make_selector(self.selector, self.plan, predictor=make)
        return ByForecast(selector, make, self._network, self.link, _INTERVAL_S)

    @cached_property
    def _recorded(self) -> Recorded:
        return make_recorded(self.episodes, self.tables.motion if self.tables else UNFITTED)

    @cached_property
    def _routes(self) -> tuple[Route, ...]:
        return routes_of(self.plan)

    @cached_property
    def _walks(self) -> tuple[StepWalk, ...]:
        return walks_of(self.plan)

    @cached_property
    def _network(self) -> SimulatedLink:
        return network_of(self.link, self.trace)

    @cached_property
    def _costs(self) -> np.ndarray:
        return np.array([COSTS[self.minimise](route) for route in self._routes])

    @cached_property
    def _known(self) -> tuple[Episode, ...]:
        """What is known in hindsight, episode by episode."""
        added = added_by(self._routes, self.tables)
        episodes, period_s = self.episodes, self.episodes.period_s
        made = []
        for first, end in episodes.bounds():
            starts = (episodes.tick_ns[first:end] - episodes.tick_ns[0]) * 1e-9
            ends = np.array(
                [[walk.end(at, self._network) for walk in self._walks] for at in starts.tolist()]
            )
            waits = np.ceil((ends - starts[:, None]) / period_s - 1e-9).astype(int)
            made.append(
                Episode(
                    self._recorded.errors(first, end),
                    np.maximum(1, waits),
                    self._costs,
                    np.array([added[route.variant] for route in self._routes]),
                )
            )
        return tuple(made)
