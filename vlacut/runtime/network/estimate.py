"""What the edge knows of its network: estimates from the frames that flow, for the next step.

Every frame from the cloud says how it came in, and how the edge's earlier frames came in there
(`vlacut.runtime.wire.burst`). These rates are pooled over a sampling interval, and a predictor per
direction gets them. Two observations give no rate, but a bound on it:

- a frame that came in all at once: the rate is at least its bytes over its extra time on the way.
  That is how much longer it took, by the cloud's clock, than the first byte of the quickest frame.
  The bound is taken if it is above the prediction;
- a step that missed its deadline before the cloud said a word: the rate is at most its bytes over
  that time. The bound is taken if it is below the prediction.

An estimate ages while nothing crosses, as with an all-edge variant. Once the uplink's estimate is
older than a second, a probe of 32 kB is sent beside the next step, and its answer renews it. If the
downlink's estimate is older than the uplink's, the downlink is assumed to have kept its ratio to
the uplink, or to have the plan's ratio if that is more. Otherwise a step whose ways up and down met
two bandwidths could rule the cloud out for ever.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

from vlacut.hardware import Link
from vlacut.plans.plan import Plan
from vlacut.runtime.network.predictors import Predictor
from vlacut.runtime.network.selectors import Forecast, Rates
from vlacut.runtime.tally import Tally
from vlacut.runtime.wire.clock import CloudClock
from vlacut.runtime.wire.frame import Heard
from vlacut.runtime.wire.protocol.header import HEADER_BYTES, PROBE
from vlacut.runtime.wire.protocol.payloads import PROBE_BYTES

STALE_NS = 1_000_000_000
_LOST_NS = 10 * STALE_NS  # a probe without an answer
_LEAST_BYTES = 4096  # that a rate, or a bound on one, is told from
_LEAST_NS = 1_000_000  # a train's: who waits for bytes wakes up a fifth of that late
_MOST_INTERVAL_S = 0.1


def sampling_interval(plan: Plan) -> float:
    """Seconds between samples for a predictor, at most 0.1 s: half of `shortest_side`."""
    return min(_MOST_INTERVAL_S, shortest_side(plan) / 2)


def shortest_side(plan: Plan) -> float:
    """The least seconds that a side computes in a step, over all variants that cross.

    RoboECC's equation 3: samples must be less than min(t_cloud, t_edge) apart, the latencies of the
    two segments of its cut. Infinity where no variant computes on both sides.
    """
    sides = (
        seconds
        for variant, crosses in zip(plan.variants, plan.crosses, strict=True)
        if crosses
        for seconds in (variant.price.edge_s, variant.price.cloud_s)
        if seconds > 0
    )
    return min(sides, default=math.inf)


class _Direction:
    """The bandwidth of one direction, in bytes per second of the wire.

    Attributes:
        newest: the newest sample.
        expected: the point forecast of the next one.
        heard_ns: when the link last told of it.
    """

    def __init__(self, predictor: Predictor, prior: float, interval_ns: int) -> None:
        self._predictor = predictor
        self._interval_ns = interval_ns
        self._pooled = (0, 0, 0)  # interval, bytes, nanoseconds
        self._known = False
        self.newest = self.expected = prior
        self.heard_ns = -math.inf

    def train(self, nbytes: int, spent_ns: int, now: int) -> None:
        """Bytes of the wire that came in so many nanoseconds."""
        interval = now // self._interval_ns
        if interval != self._pooled[0]:
            self.close()
        self._pooled = (interval, self._pooled[1] + nbytes, self._pooled[2] + spent_ns)
        self.heard_ns = max(self.heard_ns, now)

    def close(self) -> None:
        """Give what was pooled to the predictor."""
        _, nbytes, spent_ns = self._pooled
        if not nbytes:
            return
        self._pooled = (0, 0, 0)
        if spent_ns:
            self._sample(nbytes * 1e9 / spent_ns)

    def at_least(self, rate: float, now: int) -> None:
        """It is so much or more."""
        if rate > self.expected:
            self._sample(rate)
            self.heard_ns = now

    def at_most(self, rate: float, now: int) -> None:
        """It is so much or less."""
        if rate < self.expected:
            self._sample(rate)
            self.heard_ns = now

    def _sample(self, rate: float) -> None:
        self._predictor.update(rate)
        self._known = True
        self.newest = rate
        self.expected = self._predictor.predict(None)

    def predict(self, quantile: float | None) -> float:
        """The next sample: see `Predictor.predict`."""
        if quantile is None or not self._known:
            return self.expected
        return self._predictor.predict(quantile)


class NetworkEstimates:
    """The estimates of both directions and of the round trip. Any thread may call any method.

    Args:
        link: the network that is assumed before anything has crossed; its framing is always used.
        predictor: makes one predictor per direction.
        interval_s: see `sampling_interval`.
        now_ns: the clock of the frames; a simulation has its own.
    """

    def __init__(
        self,
        link: Link,
        predictor: Callable[[], Predictor],
        interval_s: float,
        now_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._now_ns = now_ns
        self._share = link.framing.share
        interval_ns = max(1, round(interval_s * 1e9))
        self._up = _Direction(predictor(), link.wire_up, interval_ns)
        self._down = _Direction(predictor(), link.wire_down, interval_ns)
        self._up_beside_down = link.wire_up
        self._down_per_up = link.down / link.up
        self._rtt_s = link.rtt
        self._probed_ns = -_LOST_NS
        self._awaits_probe = False
        self._lock = threading.Lock()

    def forecast(self) -> Forecast:
        """The forecast of the network."""
        with self._lock:
            ratio, up, down = self._settle(), self._up, self._down
            return Forecast(
                up.predict,
                lambda quantile: ratio * down.predict(quantile),
                self._rtt_s,
                up.newest,
            )

    def expected(self) -> Rates:
        """The point forecast alone."""
        with self._lock:
            ratio = self._settle()
            return Rates(self._up.expected, ratio * self._down.expected, self._rtt_s)

    def _settle(self) -> float:
        """Close what was pooled; by how much the downlink is taken to have changed since heard."""
        up, down = self._up, self._down
        up.close()
        down.close()
        if up.heard_ns <= down.heard_ns + STALE_NS:
            self._up_beside_down = max(up.expected, 1.0)
            return 1.0
        least = max(down.expected, 1.0)
        return max(up.expected / self._up_beside_down, up.expected * self._down_per_up / least)

    def learn(self, heard: Sequence[Heard], tally: Tally | None, clock: CloudClock) -> None:
        """Learn from what frames said, among them the frames of the tally's step."""
        with self._lock:
            self._learn(heard, tally, clock)

    def _learn(self, heard: Sequence[Heard], tally: Tally | None, clock: CloudClock) -> None:
        told_up = told_down = False
        for each in heard:
            _, _, _, _, nbytes, spent_ns, *_ = each.times
            burst = each.burst
            if each.kind == PROBE and self._awaits_probe:
                told_up |= self._learn_probe(each, clock)
            elif _tells(nbytes, spent_ns):
                told_up = True
                self._train(self._up, nbytes, spent_ns, burst.last_ns)
            if _tells(burst.train_bytes, burst.train_ns):
                told_down = True
                self._train(self._down, burst.train_bytes, burst.train_ns, burst.last_ns)
        if tally is not None:
            self._bound(tally, clock, told_up, told_down)
        self._rtt_s = clock.delay_ns * 1e-9

    def _learn_probe(self, heard: Heard, clock: CloudClock) -> bool:
        """From the answer to a probe; whether it could tell a rate."""
        _, whole_ns, _, _, nbytes, spent_ns, _ = heard.times
        self._awaits_probe = False
        # Its answer may have waited for the end of a step: what it tells is as old as itself.
        if _tells(nbytes, spent_ns):
            self._train(self._up, nbytes, spent_ns, self._probed_ns)
            return True
        on_the_way = whole_ns - clock.offset_ns - self._probed_ns
        self._at_least(self._up, HEADER_BYTES + PROBE_BYTES, on_the_way, clock)
        return False

    def _train(self, way: _Direction, nbytes: int, spent_ns: int, now: int) -> None:
        way.train(round(nbytes / self._share), spent_ns, now)

    def _bound(self, tally: Tally, clock: CloudClock, told_up: bool, told_down: bool) -> None:
        """From frames that came at once, on the way for so long by both clocks."""
        for (sent_ns, up), answer in tally.answered:
            _, whole_ns, answered_ns, *_ = answer.times
            if not told_up and up >= _LEAST_BYTES:
                self._at_least(self._up, up, whole_ns - clock.offset_ns - sent_ns, clock)
            if not told_down and answer.nbytes >= _LEAST_BYTES:
                spent_ns = answer.arrived_ns - answered_ns + clock.offset_ns
                self._at_least(self._down, answer.nbytes, spent_ns, clock)

    def _at_least(self, way: _Direction, nbytes: int, spent_ns: int, clock: CloudClock) -> None:
        """Half of the delay is how long the first byte of the clock's best exchange was on the way,
        by that same clock, so the difference does not depend on the offset of the clocks.
        """
        half_ns = clock.error_ns
        if spent_ns + half_ns <= 0:  # the clock has jumped
            return
        longer_ns = max(0, spent_ns - half_ns)
        way.at_least(nbytes * 1e9 / (longer_ns + _LEAST_NS) / self._share, self._now_ns())

    def missed(self, tally: Tally) -> None:
        """Learn that the step of this tally missed its deadline."""
        if tally.answered or not tally.posted:
            return
        with self._lock:
            now = self._now_ns()
            spent_ns = now - tally.posted[0][0]
            nbytes = sum(nbytes for _, nbytes in tally.posted)
            self._up.at_most(nbytes * 1e9 / spent_ns / self._share, now)

    def probe(self) -> bool:
        """Whether to send a probe now; if so, it counts as sent."""
        with self._lock:
            now = self._now_ns()
            patience = _LOST_NS if self._awaits_probe else STALE_NS
            if now - max(self._up.heard_ns, self._probed_ns) <= patience:
                return False
            self._probed_ns = now
            self._awaits_probe = True
            return True


def _tells(nbytes: int, spent_ns: int) -> bool:
    """Whether a train tells a rate."""
    return nbytes >= _LEAST_BYTES and spent_ns >= _LEAST_NS
