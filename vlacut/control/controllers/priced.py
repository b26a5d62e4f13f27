"""The one controller: keep, or any variant, by the expected error of the action when it is used.

An inference by variant v that is asked for now gives commands of age T(v) on, until the next one
takes its place after L. If every cycle were like that, error and cost would come to

    g(v) = least over L of ( sum of e_variant[v][b] + e_stale[b][T(v) + t] over t < L
                             + price x cost(v) ) / L

a second, b being the bin of the tick's risk, T the predicted time of an inference. That is what to
beat, so the chunk in force is kept while the error that its commands come to is no more than g:

    ask for the v of the least g as soon as e_stale[b][age + T(v) + a tick] > g(v)

the rule of age replacement (Barlow and Proschan, Mathematical Theory of Reliability, 1965), which
is the best there is where b stays as it is. A chunk that is asked for now is used from T on, so the
cost of keeping is the age that commands will have when a request of the next tick would be
answered. If the chunk in force would be over by then, it cannot be kept. Skipping an inference
(RAPID), a cheaper precision (DyQ-VLA), a nearer route (RoboECC, RAPID) and a deeper pipeline
(ActionFlow) are one comparison.

Where chunks are played from their first command on, whatever their age (`naive`), what was executed
while the next one was made comes again, and the robot goes back. A cycle pays for that as well: how
far each of these commands lies from the last of them, summed over T(v).

The price of a second of compute follows from `eps`, the error that is allowed in calm phases (the
first bin): with no latency, the cheapest variant would be asked for when its commands err by as
much, so it costs what they err less than that until then, the sum of eps - e_stale[0][t].

Without tables the error of a command is its age, for every variant, and held to `most_age_s`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from vlacut.control.renewal import Cycles, gone_back
from vlacut.control.report import Route
from vlacut.control.signals.risk import RiskSignals
from vlacut.control.situation import Coming, Decision, Keep, Request, Seam, Situation
from vlacut.control.tables import ActionTables
from vlacut.errors import InputError, suggestion

MOST_AGE_S = 0.5
_RATE = 0.05  # by which a measured error moves the tables, as a logarithm

COSTS: dict[str, Callable[[Route], float]] = {
    "compute": lambda route: route.edge_s + route.cloud_s,
    "cloud-time": lambda route: route.cloud_s,
    "edge-time": lambda route: route.edge_s,
    "energy": lambda route: route.edge_j,
}

_log = logging.getLogger("vlacut.control")


class Priced:
    """See the module's docstring.

    Args:
        routes: of all variants.
        tables: None for age alone.
        minimise: one of `COSTS`.
        variants: names of those that may be asked for; if empty all, without tables only those
            of the program's own precision.
        most_age_s: the age that is allowed, without tables.
        eps: the error that is allowed in calm phases, in shares of ranges; None for the tables'.

    Raises InputError for names that there are not, for tables of other variants, and for an `eps`
    without tables or not above 0.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        tables: ActionTables | None = None,
        minimise: str = "compute",
        variants: Sequence[str] = (),
        most_age_s: float = MOST_AGE_S,
        eps: float | None = None,
    ) -> None:
        names = [route.variant for route in routes]
        for name in variants:
            if name not in names:
                raise InputError(f"the plan has no variant {name!r}; {suggestion(name, names)}")
        if minimise not in COSTS:
            raise InputError(f"nothing called {minimise!r} to minimise: {', '.join(COSTS)}")
        if tables is None:
            _log.warning("no tables of action errors: commands are held to their age alone")
        else:
            tables.check(names)
        if eps is not None:
            tables = _allowing(tables, eps)
        self._tables, self._most_age_s = tables, most_age_s
        self._costs = [COSTS[minimise](route) for route in routes]
        self._allowed = [
            place
            for place, route in enumerate(routes)
            if (route.variant in variants if variants else tables is not None or not route.rounded)
        ]
        self._rows = [tables.variants.index(name) if tables else 0 for name in names]
        self._cycles = None if tables is None else Cycles(tables)
        self._paid = [0.0] * len(names)  # of an inference, in errors times seconds
        costs = [self._costs[place] for place in self._allowed if self._costs[place] > 0]
        if self._cycles is not None and costs:
            price = self._cycles.allowed / min(costs)
            self._paid = [price * cost if cost > 0 else 0.0 for cost in self._costs]
        self._signals = RiskSignals()
        self._drift = 0.0  # logarithm of what errors are beyond the tables
        self.reset()

    def reset(self) -> None:
        """See `Controller`."""
        self._signals.reset()
        self._measured = -1

    def decide(self, situation: Situation) -> Decision:
        """See `Controller`."""
        tables = self._tables
        bin_ = 0
        if tables is not None:
            features = self._signals.features(situation.motion, situation.ahead)
            bin_ = tables.bin(float(tables.risk.risk(features)))
            if situation.seam is not None and situation.seam.chunk != self._measured:
                self._measured = situation.seam.chunk
                self._learn(tables, bin_, situation.seam)
        if situation.buffer.in_flight_s is not None:
            return Keep()
        return self._choose(situation, bin_)

    def _choose(self, situation: Situation, bin_: int) -> Decision:
        buffer, times = situation.buffer, situation.times
        limits = {
            place: self._limit(place, bin_, times[place], situation.coming)
            for place in self._allowed
        }
        best = self._best(limits, times, buffer.left_s)
        keep = math.inf
        if not buffer.runs_out and buffer.left_s > times[best] + 1.5 * situation.tick_s:
            keep = self._stale(bin_, buffer.age_s + times[best] + situation.tick_s)
        said = f"bin {bin_}" if self._tables else "no tables, age alone"
        if keep <= limits[best]:
            return Keep(said)
        return Request(best, why=f"{said}: keeping would err {keep:.3g} of {limits[best]:.3g}")

    def _best(self, limits: dict[int, float], times: Sequence[float], left_s: float) -> int:
        """Of the variants that are there before the chunk in force is over, the one of the least
        error and cost; if none is, the one that is there first.
        """
        in_time = [place for place in limits if times[place] <= left_s]
        if in_time:
            return min(in_time, key=lambda place: (limits[place], self._costs[place]))
        return min(limits, key=lambda place: (times[place], self._costs[place]))

    def _limit(self, variant: int, bin_: int, takes_s: float, coming: Coming) -> float:
        """The error beyond which commands are not kept if they can be had by a variant."""
        if self._cycles is None or self._tables is None:
            return max(self._most_age_s, takes_s)
        added = float(self._tables.e_variant[self._rows[variant], bin_])
        paid = self._paid[variant]
        if coming.again:
            paid += gone_back(coming, takes_s, self._tables.scale)
        return added + self._cycles.least(bin_, takes_s, paid, math.exp(self._drift))

    def _stale(self, bin_: int, age_s: float) -> float:
        if self._tables is None or age_s == math.inf:
            return age_s
        return math.exp(self._drift) * self._tables.stale(bin_, age_s)

    def _learn(self, tables: ActionTables, bin_: int, seam: Seam) -> None:
        """A new chunk against what the old one had for the same time is a measured error.

        By the quantile tracker that `vlacut.runtime.network.conformal` has, so that the share of
        errors beyond the tables stays what it was promised to be; of means, so that they stay that.
        """
        if seam.difference.size != tables.scale.size:
            return
        error = float((seam.difference / tables.scale).mean())
        promised = self._stale(bin_, seam.gap_s)
        if tables.alpha:
            off = (error > promised) - tables.alpha
        else:
            off = max(-1.0, min(1.0, (error - promised) / float(tables.eps[bin_])))
        self._drift = max(-1.0, min(2.0, self._drift + _RATE * off))


def _allowing(tables: ActionTables | None, eps: float) -> ActionTables:
    """Tables with another error that is allowed."""
    if tables is None or not 0 < eps < math.inf:
        raise InputError(f"eps={eps:g}: it must be above 0, and needs tables of action errors")
    return replace(tables, eps=np.full(tables.eps.size, eps))
