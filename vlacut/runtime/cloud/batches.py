"""The engines of a part for several robots at once, and how long each takes."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlacut.errors import told
from vlacut.plans.batch import batch_name, slot
from vlacut.plans.plan import Part, Plan
from vlacut.runtime.cloud.trials import InTurn, Trials, at_once
from vlacut.runtime.engines import host_arrays

if TYPE_CHECKING:
    from vlacut.runtime.cloud.asked import Asked

_log = logging.getLogger("vlacut.server")
_WEIGHT = 0.2  # of the newest run, in what a run is predicted to take
_DOUBT = 0.02  # of a run of another engine, in what this one, tried long ago, is predicted to take


class Batches:
    """A part's engines for several robots. One thread at a time, that whose turn it is.

    Each is tried as it is loaded. One that does not make for every robot what the part's own engine
    makes is left out, then or later, and a warning says why.

    Args:
        part: of a plan.
        engines: for so many robots each; 1 is the part's own.
        plan: with the specs of its tensors.
        in_turn: does something while no robot's engine runs, lest either be measured with the
            other. It is asked for every run, so that robots have their turns between these.

    Attributes:
        seconds: what a run is predicted to take, by robots: of the runs before, the newest most.
            What is not run comes slowly to what it took as it was tried, as the others now do:
            else one slow run would keep an engine from ever being run again.
        runs: how many there were, by robots.
        failed: runs for several that failed, and were done one by one.
    """

    def __init__(
        self, part: Part, engines: Mapping[int, Any], plan: Plan, in_turn: InTurn = at_once
    ) -> None:
        self._part = part
        self._engines = dict(engines)
        self.most = max(engines)
        self.runs = Counter(dict.fromkeys(engines, 0))  # others read it: it has all its keys
        self.failed = 0
        specs = {key: plan.spec[key] for key in part.inputs}
        trials = Trials(lambda *what: self._made(*what)[0], specs, part.outputs, self.most, in_turn)
        self.seconds: dict[int, float] = {}
        for size in sorted(engines):
            self._try(size, trials)
        self._tried = dict(self.seconds)

    def _try(self, size: int, trials: Trials) -> None:
        """Time an engine, and let robots have it if each would get what it gets alone."""
        try:
            self.seconds[size], made = trials.of(size)
        except Exception as error:  # whatever a back end raises
            if size == 1:
                raise
            self._leave_out(size, f"fails: {told(error)}")
            return
        if size > 1 and not trials.agrees(size, made):
            self._leave_out(size, "does not make what it makes for each")

    def _leave_out(self, size: int, why: str) -> None:
        name = self._part.name
        _log.warning("%s for %d robots %s: it is left out", name, size, why)
        del self._engines[size]
        self.seconds.pop(size, None)
        self.most = max(self._engines)

    def choose(self, waiting: Sequence[Asked]) -> list[Asked]:
        """Of those who wait, the first and those who run with it.

        As many as make a robot's run take least, of what lets each be in time that would be alone.
        """
        now, alone = time.monotonic(), self.seconds[1]
        best, best_s = 1, alone
        for size, seconds in self.seconds.items():
            members = waiting[:size]
            late = any(now + alone <= one.latest_s < now + seconds for one in members)
            share = seconds / len(members)
            if not late and share < best_s:
                best, best_s = len(members), share
        return list(waiting[:best])

    def saved(self, there: int, more: int) -> float:
        """Seconds that the engines are spared if so many run together with so many more."""
        one, other, all_s = map(self._least_s, (there, more, there + more))
        return one + other - all_s

    def _least_s(self, robots: int) -> float:
        """Of a run for so many; of what there are engines for, if that is fewer."""
        fit = [seconds for size, seconds in self.seconds.items() if size >= robots]
        return min(fit, default=self.seconds[self.most])

    def run(self, members: Sequence[Asked]) -> None:
        """Run for several; what is free beyond them runs for the first once more."""
        size = self._size(members)
        filled = [one.inputs for one in members]
        filled += [members[0].inputs] * (size - len(members))
        start = time.monotonic()
        made, device_ns = self._made(size, filled)
        self.note(size, time.monotonic() - start)
        for number, one in enumerate(members):
            one.made = {key: made[slot(key, number)] for key in self._part.outputs}
            one.device_ns = device_ns // len(members)

    def _size(self, members: Sequence[Asked]) -> int:
        """The engine that runs for so many."""
        return min(size for size in self._engines if size >= len(members))

    def note_failure(self, members: Sequence[Asked], error: Exception) -> None:
        """Note a run for several that failed, once each has run alone: if none of them is at fault,
        the engine is, and is left out.
        """
        self.failed += 1
        if all(one.error is None for one in members):
            self._leave_out(self._size(members), f"fails where each alone does not: {told(error)}")

    def note(self, size: int, seconds: float) -> None:
        """Note a run of the engine for so many."""
        self.runs[size] += 1
        slower = seconds / self._tried[size]
        for each, before in self.seconds.items():
            weight = _WEIGHT if each == size else _DOUBT
            self.seconds[each] = before + weight * (slower * self._tried[each] - before)

    def _made(
        self, size: int, inputs: Sequence[Mapping[str, Any]]
    ) -> tuple[Mapping[str, Any], int]:
        """Through host memory: a robot's tensors may still be on the way to its own device."""
        engine = self._engines[size]
        keys = self._part.inputs
        given = (
            dict(inputs[0])
            if size == 1
            else {slot(key, at): one[key] for at, one in enumerate(inputs) for key in keys}
        )
        arrays = host_arrays(given.values())
        made = engine.run(dict(zip(given, arrays, strict=True)))
        return made, getattr(engine, "device_ns", 0)


def batches_of(
    plan: Plan, engines: Mapping[str, Any], in_turn: InTurn = at_once
) -> dict[str, Batches]:
    """The batches of a plan's parts, by name, as far as there are engines for them.

    Every engine runs, so that it is known how long it takes. Raises what one does.
    """
    found = {}
    for part in plan.parts:
        sizes = [one.robots for one in part.batches if batch_name(part.name, one.robots) in engines]
        if sizes and part.name in engines:
            own = {size: engines[batch_name(part.name, size)] for size in sizes}
            found[part.name] = Batches(part, {1: engines[part.name], **own}, plan, in_turn)
    return found
