"""The one controller: keep, or any variant, by the expected error of the action when it is used.

    E(v)    = e_variant[v][b] + e_stale[b][T(v) + half of what is played]
    E(keep) = e_stale[b][age + T + a tick]
    the cheapest of keep and all v with E <= eps[b]; if no v has, of those within eps[b] of the
    least E, since what is too little to be an error is too little to pay for

where b is the bin of the tick's risk and T the predicted time of an inference. A chunk that is
asked for now is used from T on. So the cost of keeping is the age that commands will have when a
request of the next tick would be answered, with the T of the variant that is best now. If the chunk
in force would be over by then, it cannot be kept. `What is played` is the mean time between
requests. Skipping an inference (RAPID), a cheaper precision (DyQ-VLA), a nearer route (RoboECC,
RAPID) and a deeper pipeline (ActionFlow) are one comparison.

Without tables the error of a command is its age, for every variant.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence

from vlacut.control.report import Route
from vlacut.control.signals.risk import RiskSignals
from vlacut.control.situation import Decision, Keep, Request, Seam, Situation
from vlacut.control.tables import ActionTables
from vlacut.errors import InputError, suggestion

MOST_AGE_S = 0.5
_SHARE = 0.2  # of the newest, in the mean time between requests
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
        variants: names of those that may be asked for; all if empty.
        most_age_s: the age that is allowed, without tables.

    Raises InputError for names that there are not, and for tables of other variants.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        tables: ActionTables | None = None,
        minimise: str = "compute",
        variants: Sequence[str] = (),
        most_age_s: float = MOST_AGE_S,
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
        self._tables, self._most_age_s = tables, most_age_s
        self._costs = [COSTS[minimise](route) for route in routes]
        self._allowed = [
            place for place, name in enumerate(names) if not variants or name in variants
        ]
        self._rows = [tables.variants.index(name) if tables else 0 for name in names]
        self._signals = RiskSignals()
        self._drift = 0.0  # logarithm of what errors are beyond the tables
        self.reset()

    def reset(self) -> None:
        """See `Controller`."""
        self._signals.reset()
        self._played_s = 0.0
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
        decision = self._choose(situation, bin_)
        if isinstance(decision, Request) and situation.buffer.since_request_s < math.inf:
            self._played_s += _SHARE * (situation.buffer.since_request_s - self._played_s)
        return decision

    def _choose(self, situation: Situation, bin_: int) -> Decision:
        buffer, times = situation.buffer, situation.times
        allowed = self._most_age_s if self._tables is None else float(self._tables.eps[bin_])
        errors = {
            place: self._error(place, bin_, times[place] + self._played_s / 2)
            for place in self._allowed
        }
        least = min(errors.values())
        limit = allowed if least <= allowed else least + allowed
        best = self._cheapest(errors, limit, times, buffer.left_s)
        keep = math.inf
        if not buffer.runs_out and buffer.left_s > times[best] + 1.5 * situation.tick_s:
            keep = self._stale(bin_, buffer.age_s + times[best] + situation.tick_s)
        said = f"bin {bin_}" if self._tables else "no tables, age alone"
        if keep <= limit:
            return Keep(said)
        return Request(best, why=f"{said}: keeping would err {keep:.3g} of {limit:.3g}")

    def _cheapest(
        self, errors: Mapping[int, float], limit: float, times: Sequence[float], left_s: float
    ) -> int:
        """Of the variants that err no more, the cheapest that is there before the chunk in force is
        over; if none is, the one that is there first.
        """
        good = [place for place, error in errors.items() if error <= limit]
        in_time = [place for place in good if times[place] <= left_s]
        if in_time:
            return min(in_time, key=lambda place: (self._costs[place], errors[place]))
        return min(good, key=lambda place: (times[place], self._costs[place]))

    def _error(self, variant: int, bin_: int, age_s: float) -> float:
        stale = self._stale(bin_, age_s)
        if self._tables is None:
            return stale
        return stale + float(self._tables.e_variant[self._rows[variant], bin_])

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
