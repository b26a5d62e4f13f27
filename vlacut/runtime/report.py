"""The report of a control step: where its action comes from, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from vlacut.runtime.interpreter import Span, Tally


class Source(str, Enum):
    """Where an action comes from.

    CHOSEN: the plan's variant, both sides together. ALONE: the all-edge variant. STALE: it is the
    action of an earlier step again.
    """

    CHOSEN = "chosen"
    ALONE = "alone"
    STALE = "stale"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class StepReport:
    """What a control step did. Times in nanoseconds are on the edge's `time.perf_counter_ns`.

    Attributes:
        step: its number, from 0.
        source: where the action comes from.
        reason: why it does not come from the plan's variant; empty if it does.
        captured_ns: when the observation that the action answers was captured; of a stale action,
            the earlier one.
        began_ns: when the step was asked for.
        returned_ns: when the action was returned.
        edge_s, cloud_s: seconds by part.
        bytes_up, bytes_down: of tensors.
        frames: sent and received by the edge.
        late: frames of earlier steps that came in this one, and were dropped.
        spans: what ran when, by track: `edge`, `cloud`, `uplink`, `downlink`.
        clock_error_s: by how much times of the cloud may be off here, see `vlacut.runtime.clock`.
    """

    step: int
    source: Source
    reason: str
    captured_ns: int
    began_ns: int
    returned_ns: int
    edge_s: Mapping[str, float]
    cloud_s: Mapping[str, float]
    bytes_up: int
    bytes_down: int
    frames: int
    late: int
    spans: Mapping[str, tuple[Span, ...]]
    clock_error_s: float

    @property
    def latency_s(self) -> float:
        """From asking for the step to its action."""
        return (self.returned_ns - self.began_ns) * 1e-9

    @property
    def age_s(self) -> float:
        """Age of the observation behind the action, when the action was returned."""
        return (self.returned_ns - self.captured_ns) * 1e-9

    @property
    def network_s(self) -> float:
        """What neither side computed in: the link, the wire format, and waiting."""
        return self.latency_s - sum(self.edge_s.values()) - sum(self.cloud_s.values())

    @property
    def uplink_s(self) -> float:
        """Seconds that frames were on their way up, from before they were packed to whole."""
        return self._track_s("uplink")

    @property
    def downlink_s(self) -> float:
        """Seconds that frames were on their way down."""
        return self._track_s("downlink")

    def _track_s(self, track: str) -> float:
        return sum(span.end_ns - span.start_ns for span in self.spans.get(track, ())) * 1e-9


def tracks(tally: Tally, offset_ns: int) -> dict[str, tuple[Span, ...]]:
    """What ran when, on the edge's clock; `offset_ns` is the cloud's clock less the edge's."""
    found = {"edge": tuple(tally.spans)}
    if tally.exchanges:
        # Several frames down may answer one frame up: that one counts once.
        up = {item.t1: Span("frame", item.t1, item.t2 - offset_ns) for item in tally.exchanges}
        found["uplink"] = tuple(up.values())
        found["cloud"] = tuple(
            Span(span.name, span.start_ns - offset_ns, span.end_ns - offset_ns)
            for span in tally.reported
        )
        found["downlink"] = tuple(
            Span("frame", item.t3 - offset_ns, item.t4) for item in tally.exchanges
        )
    return found
