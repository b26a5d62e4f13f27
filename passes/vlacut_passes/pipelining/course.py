"""When the trips of a request run, if several requests are in flight."""

from __future__ import annotations

from dataclasses import dataclass

from vlacut.errors import PassError


@dataclass(frozen=True)
class Course:
    """The trips of a loop over the control steps that a request is in flight.

    In a control step (a *tick*) there are `more` + 1 passes over the weights. A pass runs a trip of
    every request in flight, and, if the prefill is packed, the prefill of the newest in the place
    of a trip of its own. ActionFlow (arXiv 2512.20276) is `more` = 0; `more` = trips is the program
    as it is.

    Attributes:
        trips: of the loop.
        more: passes of a tick beyond the first.
        prefilled: whether the newest request has its prefill in the first pass.
    """

    trips: int
    more: int
    prefilled: bool

    @property
    def first(self) -> int:
        """Trips of a request in its first tick."""
        return min(self.trips, self.more if self.prefilled else self.more + 1)

    @property
    def ticks(self) -> int:
        """Control steps that a request is in flight, its first one included."""
        return 1 + -(-(self.trips - self.first) // (self.more + 1))

    def trip(self, age: int, number: int) -> int | None:
        """Which trip a request runs in a pass; None for none.

        `age` counts ticks since its observation, `number` the passes of a tick, both from 0.
        """
        if age == 0:
            trip = number - 1 if self.prefilled else number
        else:
            trip = self.first + (age - 1) * (self.more + 1) + number
        return trip if 0 <= trip < self.trips else None

    def last_pass(self, age: int) -> int | None:
        """The pass in which a request of an age runs its last trip; None if in none."""
        passes = range(self.more + 1)
        return next((one for one in passes if self.trip(age, one) == self.trips - 1), None)


def course_of(trips: int, requests: int, prefilled: bool) -> Course:
    """The course with the fewest passes a tick that has at most so many requests in flight.

    Raises PassError where that many are not needed, or are fewer than two.
    """
    every = [Course(trips, more, prefilled) for more in range(trips)]
    most = every[0].ticks
    if not 2 <= requests <= most:
        raise PassError(
            f"{requests} requests in flight: a loop of {trips} trips has 2 to {most} at a time; "
            f"without this it has one"
        )
    return next(one for one in every if one.ticks <= requests)
