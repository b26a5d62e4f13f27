"""Ways to run the loop of a program: trip by trip, with requests in flight, or over drafts."""

from __future__ import annotations

from dataclasses import dataclass

PLAIN = "trip by trip"


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to run a program's loop, as it is priced with a cut of its own.

    Attributes:
        name: for people.
        in_flight: requests in flight; 0 for one at a time.
        draft: where drafts come from; empty for none.
        passes: over the loop's weights in a control step: trips, if one follows the other.
        step_s: seconds of a control step, so of an action each; infinity where there is none.
        warming: how many steps an action comes after its observation.
        cloud_s: seconds of compute in the cloud, per control step.
        edge_j: joules of the edge, per control step.
        why_not: why it is not allowed; empty if it is.
        taken: whether the plan runs it.
    """

    name: str
    in_flight: int = 0
    draft: str = ""
    passes: int = 0
    step_s: float = float("inf")
    warming: int = 0
    cloud_s: float = 0.0
    edge_j: float = 0.0
    why_not: str = ""
    taken: bool = False

    @property
    def latency_s(self) -> float:
        """Seconds from an observation to its action."""
        return (self.warming + 1) * self.step_s

    @property
    def age_s(self) -> float:
        """Age of the action in force, on average, where steps follow one another."""
        return age_s(self.warming, self.step_s)


def age_s(warming: int, step_s: float) -> float:
    """Seconds from an observation to the middle of its action's use, where steps follow one
    another: so many steps that an action is behind, the one that makes it, and half of the next.
    """
    return (warming + 1.5) * step_s
