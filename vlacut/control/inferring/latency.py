"""How long inferences take: the plan's price at the forecast, corrected by what they took here.

The price knows the link, the variants, and the machines that were planned for. If this machine is
slower or busier, the ratio of an inference's time to its price shows it. A quantile of a variant's
last ratios corrects its price. The median gives the expected time. The ceil((n + 1) q)-th smallest
of n ratios gives a time that is hardly exceeded, as in split conformal prediction (Lei et al.
2018); with too few ratios it is the largest. While the session falls back, an inference takes at
least as long as the last one did; with a deadline, as long as that.

The price counts the state that has to cross because the step before was by another variant, as that
of selectors does (`Plan.move_s`).
"""

from __future__ import annotations

from collections import deque

from vlacut.hardware import Link
from vlacut.plans.plan import Plan
from vlacut.runtime.network.selectors import Rates
from vlacut.tensor.split_conformal import rank_of

QUANTILE = 0.9
_REMEMBERED = 32


class InferenceTimes:
    """Predicts the seconds of an inference by each variant.

    Args:
        plan: whose variants.
        quantile: share of the inferences that shall take no longer.
    """

    def __init__(self, plan: Plan, quantile: float = QUANTILE) -> None:
        self._plan = plan
        self._quantile = quantile
        self._ratios = [deque[float](maxlen=_REMEMBERED) for _ in plan.variants]
        self._middle = [1.0] * len(plan.variants)
        self._upper = [1.0] * len(plan.variants)
        self._least_s = 0.0
        self._left: int | None = None

    def reset(self, left: int | None = None) -> None:
        """Begin another episode: on the initial state, which both sides have, or on what a variant
        left.
        """
        self._left = left

    def fell_back(self, seconds: float, left: int | None = None) -> None:
        """Learn that an inference was not made by its variant, and how many seconds it took; state
        is where the variant `left` leaves it, or where it was.
        """
        self._least_s = seconds
        if left is not None:
            self._left = left

    def learn(self, variant: int, rates: Rates, seconds: float) -> None:
        """Learn the seconds of an inference, and the network that was expected when it began."""
        self._least_s = 0.0
        price_s = self._price_s(variant, rates.over(self._plan.link))
        self._left = variant
        if price_s <= 0 or seconds <= 0:
            return
        ratios = self._ratios[variant]
        ratios.append(seconds / price_s)
        ordered = sorted(ratios)
        rank = rank_of(len(ordered), self._quantile)
        self._upper[variant] = ordered[min(rank, len(ordered)) - 1]
        self._middle[variant] = ordered[(len(ordered) - 1) // 2]

    def at(self, rates: Rates) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Seconds by variant over a network: the median, and a time that is hardly exceeded."""
        link = rates.over(self._plan.link)
        prices = [self._price_s(place, link) for place in range(len(self._plan.variants))]
        made = [
            tuple(
                max(self._least_s, one * price) for one, price in zip(factors, prices, strict=True)
            )
            for factors in (self._middle, self._upper)
        ]
        return made[0], made[1]

    def _price_s(self, variant: int, link: Link) -> float:
        """Of a step by a variant now, with the state that it moves."""
        price_s = self._plan.variants[variant].price.over(link)
        left = self._left
        return price_s if left is None else price_s + self._plan.move_s(left, variant, link)
