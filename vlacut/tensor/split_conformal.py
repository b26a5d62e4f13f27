"""Split conformal bounds: what is said of a fresh observation from errors of others like it.

Errors of `count` observations, none of which had a say in what is bounded, and of a fresh one are
exchangeable. So the fresh one's is at most the r-th smallest of them with a chance of r / (count +
1) at least, whatever their distribution is (Vovk, Gammerman and Shafer, "Algorithmic Learning in a
Random World", 2005; Lei et al., "Distribution-Free Predictive Inference for Regression", 2018).
"""

from __future__ import annotations

import math


def rank_of(count: int, coverage: float) -> int:
    """The least r with r / (count + 1) >= coverage; above `count` where no rank will do."""
    rank = math.ceil((count + 1) * coverage)
    # In floating point 0.95 x 20 may be a little more than 19.
    return rank - 1 if rank > 1 and (rank - 1) / (count + 1) >= coverage else rank


def least_count(coverage: float) -> int:
    """The fewest errors that bound a fresh one with this coverage."""
    count = max(1, math.floor(1 / (1 - coverage)) - 2)
    while rank_of(count, coverage) > count:
        count += 1
    return count


def chance(beyond: int, fresh: int, count: int, rank: int) -> float:
    """How likely at least `beyond` of `fresh` errors exceed the rank-th smallest of `count` others,
    where all are exchangeable; less where some are equal.

    In the order of all errors each choice of places for the fresh ones is as likely. `j` of them
    are beyond that error in C(count - rank + j, j) C(rank - 1 + fresh - j, fresh - j) of the
    C(count + fresh, fresh) choices.
    """
    ways = sum(
        math.comb(count - rank + more, more) * math.comb(rank - 1 + fresh - more, fresh - more)
        for more in range(beyond, fresh + 1)
    )
    return ways / math.comb(count + fresh, fresh)
