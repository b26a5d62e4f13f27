"""The report of a control step: where its action comes from, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np

from vlacut.hardware import Link
from vlacut.plans.state import StateRule
from vlacut.runtime.edge.memory import Moment
from vlacut.runtime.network.selectors import Rates
from vlacut.runtime.tally import Span, Tally


class Source(str, Enum):
    """Where an action comes from.

    CHOSEN: the variant chosen for the step, both sides together. ALONE: the all-edge variant.
    STALE: it is the action of an earlier step again.
    """

    CHOSEN = "chosen"
    ALONE = "alone"
    STALE = "stale"

    def __str__(self) -> str:
        return self.value


@dataclass(slots=True)
class Made:
    """An action, and how it was made.

    Attributes:
        action: by name, in the shapes of the plan's outputs.
        source: where it comes from.
        captured_ns: when the observation that it answers was captured, on the clock of
            `time.perf_counter_ns`.
        tally: of the step.
        moment: the state that it left; None where the plan has none.
        rule: by which the sides agreed on the state that it builds on.
        again: how many steps were run again for that.
        retries: how often it was begun again, on another connection.
    """

    action: dict[str, np.ndarray]
    source: Source
    captured_ns: int
    tally: Tally
    moment: Moment | None = None
    rule: StateRule = StateRule.NONE
    again: int = 0
    retries: int = 0


@dataclass(frozen=True)
class Overrun:
    """A step that returned after its deadline.

    Attributes:
        seconds: that it was late by.
        engine: the edge's part that ran the longest after the deadline, for an engine is not
            interrupted; empty if none ran then: the runtime was late, as threads are on a loaded
            machine.
        engine_s: seconds that it ran after the deadline.
    """

    seconds: float
    engine: str
    engine_s: float

    def __str__(self) -> str:
        late = f"{self.seconds * 1e3:.3g} ms after its deadline"
        if not self.engine:
            return f"{late}: the runtime, no engine of the edge ran then"
        return f"{late}: engine {self.engine} ran {self.engine_s * 1e3:.3g} ms of that"


@dataclass(frozen=True, repr=False)
class StepReport:
    """What a control step did. Times in nanoseconds are on the edge's `time.perf_counter_ns`.

    Attributes:
        step: its number, from 0.
        variant: that was chosen for the step.
        reason: why the action does not come from that variant; empty if it does.
        began_ns: when the step was asked for.
        returned_ns: when the action was returned.
        made: the action, and how it was made.
        planned: the plan's link.
        expected: what the network was expected to be when the variant was chosen.
        overrun: by how much it was late, and why; None if it was not, or had no deadline.
        precision: the chosen variant's; empty for that of the program as it is.
    """

    step: int
    variant: str
    reason: str
    began_ns: int
    returned_ns: int
    made: Made
    planned: Link
    expected: Rates
    overrun: Overrun | None = None
    precision: str = ""

    def __repr__(self) -> str:
        return (
            f"StepReport(step {self.step}, {self.variant}, {self.source}, "
            f"{self.latency_s * 1e3:.3g} ms)"
        )

    def summary(self) -> str:
        """Where its action came from and where its time went, on a line."""
        edge, cloud = sum(self.edge_s.values()), sum(self.cloud_s.values())
        said = (
            f"step {self.step} by {self.variant} in {self.latency_s * 1e3:.3g} ms: edge "
            f"{edge * 1e3:.3g}, cloud {cloud * 1e3:.3g}, network {self.network_s * 1e3:.3g}"
        )
        if self.source is not Source.CHOSEN:
            said += f"; the action is {self.source}: {self.reason}"
        return said + (f"; {self.overrun}" if self.overrun else "")

    @cached_property
    def link(self) -> Link:
        """The plan's link, as it was expected to be when the variant was chosen."""
        return self.expected.over(self.planned)

    @property
    def source(self) -> Source:
        """Where the action comes from."""
        return self.made.source

    @property
    def state(self) -> StateRule:
        """By which rule the sides agreed on the state that the action builds on."""
        return self.made.rule

    @property
    def warming(self) -> bool:
        """Whether there is no action yet: requests are in flight, and the first has not its own."""
        return not self.made.action

    @property
    def again(self) -> int:
        """How many steps were run again, to have that state on both sides."""
        return self.made.again

    @property
    def retries(self) -> int:
        """How often it was begun again because its connection failed. Bytes and frames are of the
        last time; state that crossed before that is on both sides, and is not sent again.
        """
        return self.made.retries

    @property
    def latency_s(self) -> float:
        """Seconds from asking for the step to its action."""
        return (self.returned_ns - self.began_ns) * 1e-9

    @property
    def age_s(self) -> float:
        """Seconds from the capture of the observation behind the action to when that was returned;
        grows while stale.
        """
        return (self.returned_ns - self.made.captured_ns) * 1e-9

    @property
    def edge_s(self) -> Mapping[str, float]:
        """Seconds by part of the edge."""
        return {name: ns * 1e-9 for name, ns in self.made.tally.part_ns.items()}

    @property
    def device_s(self) -> Mapping[str, float]:
        """Seconds by part of the edge that its device took by its own clock, where it has one."""
        return {name: ns * 1e-9 for name, ns in self.made.tally.device_ns.items()}

    @property
    def cloud_s(self) -> Mapping[str, float]:
        """Seconds by part of the cloud, as it reports them; waiting for a turn included."""
        return {name: ns * 1e-9 for name, ns in self.made.tally.cloud_part_ns.items()}

    @property
    def edge_codec_s(self) -> float:
        """Seconds that the edge spent in codecs."""
        return self.made.tally.codec_ns * 1e-9

    @property
    def cloud_codec_s(self) -> float:
        """Seconds that the cloud spent in codecs, as it reports them."""
        return self.made.tally.cloud_codec_ns * 1e-9

    @property
    def network_s(self) -> float:
        """Seconds in which neither side computed: the link, the wire format, and waiting."""
        spent = sum(self.edge_s.values()) + sum(self.cloud_s.values())
        return self.latency_s - spent - self.edge_codec_s - self.cloud_codec_s

    @property
    def uplink_s(self) -> float:
        """Seconds that frames were on their way up, from before they were packed to whole."""
        return self._track_s("uplink")

    @property
    def downlink_s(self) -> float:
        """Seconds that frames were on their way down."""
        return self._track_s("downlink")

    @property
    def clock_error_s(self) -> float:
        """Seconds by which times of the cloud, and what is on the link, may be off: half the delay
        of the exchange that the offset is from (`vlacut.runtime.wire.clock`).
        """
        return self.made.tally.clock_error_ns * 1e-9

    @property
    def bytes_up(self) -> int:
        """Bytes of tensors sent, in coded form where they have a codec; state that was moved
        included.
        """
        return self.made.tally.sent

    @property
    def bytes_down(self) -> int:
        """Bytes of tensors received, in coded form where they have a codec; state that was moved
        included, and what the cloud sends of the next step's.
        """
        return self.made.tally.received

    @property
    def frames(self) -> int:
        """How many frames the edge sent and received."""
        return self.made.tally.frames

    @property
    def late(self) -> int:
        """Frames of earlier steps that came in this one, and were dropped."""
        return self.made.tally.late

    @cached_property
    def spans(self) -> Mapping[str, tuple[Span, ...]]:
        """What ran when, by track: `edge`, `uplink`, `cloud`, `downlink`; in nanoseconds on the
        edge's clock, times of the cloud less its offset.
        """
        tally, offset = self.made.tally, self.made.tally.clock_ns
        # Several frames down may answer one frame up: that one counts once.
        up = {item.t1: Span("frame", item.t1, item.t2 - offset) for item in tally.exchanges}
        return {
            "edge": tuple(tally.spans),
            "uplink": tuple(up.values()),
            "cloud": tuple(
                Span(span.name, span.start_ns - offset, span.end_ns - offset)
                for span in tally.reported
            ),
            "downlink": tuple(Span("frame", item.t3 - offset, item.t4) for item in tally.exchanges),
        }

    def _track_s(self, track: str) -> float:
        return sum(span.end_ns - span.start_ns for span in self.spans[track]) * 1e-9
