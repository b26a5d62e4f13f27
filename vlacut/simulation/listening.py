"""Deciding by what a robot can know: the runtime's estimates, from the frames of the steps.

The runtime's own `NetworkEstimates`, its burst meter and its probes run on the simulation's clock.
The simulation says when bytes arrive, in slices, and when somebody reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vlacut.hardware import Link
from vlacut.hardware.service import Service
from vlacut.runtime.network.estimate import NetworkEstimates as Estimates
from vlacut.runtime.network.predictors import Predictor
from vlacut.runtime.network.selectors import Selector
from vlacut.runtime.tally import Tally
from vlacut.runtime.wire.burst import Burst, BurstMeter, train_of
from vlacut.runtime.wire.clock import CloudClock, Exchange
from vlacut.runtime.wire.frame import Heard
from vlacut.runtime.wire.protocol.header import HEADER_BYTES, PROBE, TENSORS
from vlacut.runtime.wire.protocol.payloads import FIXED_TIMES, PROBE_BYTES
from vlacut.simulation.walk import Passage, SimulatedLink, StepWalk

_MOST_SLICES = 64
_TIME_BYTES = 8


@dataclass(frozen=True)
class _Answer:
    """What the cloud says of a probe, and when the edge has it."""

    heard: Heard
    arrived: float


class ByFrames:
    """A selector that is told what the runtime would tell it.

    Args:
        selector: the selector.
        predictor: makes the predictors, one for each direction.
        walks: by variant.
        network: the link.
        link: what the network is taken for until something crossed; its framing is believed.
        interval: seconds between samples for a predictor.

    Attributes:
        busy: until when the uplink carries a probe.
    """

    def __init__(
        self,
        selector: Selector,
        predictor: Callable[[], Predictor],
        walks: Sequence[StepWalk],
        network: SimulatedLink,
        link: Link,
        interval: float,
    ) -> None:
        self._selector = selector
        self._walks = walks
        self._network = network
        self._segment_bytes = link.framing.segment_bytes
        self._now = 0.0
        self._estimates = Estimates(link, predictor, interval, lambda: round(self._now * 1e9))
        hop = round(network.hop_s * 1e9)
        self._clock = CloudClock(Exchange(0, hop, hop, 2 * hop))
        self._meters = BurstMeter(), BurstMeter()  # of what arrives in the cloud, and on the edge
        self._answer: _Answer | None = None
        self.busy = 0.0

    def decide(self, start: float) -> int:
        """See `vlacut.simulation.loop.Decider`."""
        self._now = start
        variant = self._selector.select(self._estimates.forecast())
        if not self._walks[variant].crosses:
            self._probe()
        return variant

    def ended(self, variant: int, start: float, end: float) -> None:
        """Learn from the frames of the step, and from the answer to a probe that has come."""
        passed = self._walks[variant].passages(start, self._network, self.busy)
        self._now = end
        heard = [self._answer.heard] if self._answer and self._answer.arrived <= end else []
        if heard:
            self._answer = None
        if passed:
            tally = self._hear(passed)
            self._estimates.learn([*heard, *tally.answers], tally, self._clock)
            self._probe()
        elif heard:
            self._estimates.learn(heard, None, self._clock)

    def _hear(self, passed: Sequence[Passage]) -> Tally:
        """What the edge notes of a step."""
        tally = Tally()
        told: list[Burst] = []  # of the edge's frames since the cloud's last
        for frame in passed:
            burst = self._burst(frame)
            if frame.up:
                told.append(burst)
                tally.posted.append((_ns(frame.sent), frame.nbytes))
                last = frame, burst
                continue
            times = [0, 0, _ns(frame.sent), 0, *train_of(told), 0]
            if tally.posted:
                up, came = last
                times[:4] = len(tally.posted), _ns(up.arrived), times[2], came.first_ns
            told = []
            arrived = _ns(frame.arrived)
            tally.answers.append(Heard(TENSORS, burst, tuple(times), arrived, frame.nbytes))
        return tally

    def _probe(self) -> None:
        """Send a probe now, if one is due and none is on its way."""
        if self._answer is not None or not self._estimates.probe():
            return
        network, nbytes = self._network, HEADER_BYTES + PROBE_BYTES
        began = max(self._now, self.busy)
        self.busy = network.up.finish(began, nbytes)
        there = self.busy + network.hop_s
        burst = self._burst(
            Passage(
                up=True,
                nbytes=nbytes,
                sent=self._now,
                began=began,
                through=self.busy,
                arrived=there,
                awaited=self._now,
            )
        )
        back = HEADER_BYTES + FIXED_TIMES * _TIME_BYTES
        arrived = network.down.finish(there, back) + network.hop_s
        times = (1, _ns(there), _ns(there), burst.first_ns, *train_of([burst]), 0)
        once = Burst(_ns(arrived), _ns(arrived), 0, 0)
        self._answer = _Answer(Heard(PROBE, once, times, _ns(arrived), back), arrived)

    def _burst(self, frame: Passage) -> Burst:
        """How a frame came in: a slice after the other, those before anybody waited at once."""
        meter = self._meters[0 if frame.up else 1]
        service: Service = self._network.up if frame.up else self._network.down
        step = max(self._segment_bytes, -(-frame.nbytes // _MOST_SLICES))
        at, left = frame.began, frame.nbytes
        while left:
            nbytes = min(step, left)
            at, left = service.finish(at, nbytes), left - nbytes
            there = at + self._network.hop_s
            meter.took(nbytes, _ns(max(there, frame.awaited)))
            if there >= frame.awaited:
                meter.emptied()
                meter.waited()
        meter.emptied()
        return meter.finish()


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
