"""What a cut costs: the one price function of the search, the report and the run-time selectors.

The price of a cut is edge compute + cloud compute + transfers + hops - overlap, where

- compute is a task's seconds on its side times the trips of its phase;
- a transfer is a flow's bytes over the bandwidth of its direction, times the flow's count; a flow
  that is coded on its way costs the seconds of its codec on both sides too, and one that a side
  converts (`Flow.edge_border_s`) those of that;
- a hop is half a round trip. The first trips of all phases together take as many hops as there are
  changes of side on the longest chain from the observation to the action. Every later trip of a
  phase takes as many as the longest chain within it, from where the trip before left its values;
- where all changes of side in a loop lead one way, and nothing that it carries crosses, no trip
  waits for one before: later trips take no hops, and each takes the longest of its edge compute,
  its transfers and its cloud compute, see `vlacut.pricing.phase_loops`. A side runs in order, so a
  loop that crosses both ways waits in every trip, carried or not;
- overlap is what such loops save, and what the sides save by working in parallel in the regions of
  a phase, see `vlacut.pricing.regions`: whole branches on one side run beside whole branches on the
  other. In a loop that leads one way, a region counts only in the first trip: in later trips the
  longest of the three times covers it.

State is a flow from the task that makes it to the tasks that read it in the next control step. It
costs its bytes if the two are on different sides, but no hop: nobody waits for it in the step that
sends it. What runs on reset runs only in the first step of an episode, and is priced by a graph of
its own: see `vlacut.ir.dataflow`.

Other overlap (a transfer for a later phase beside compute) is not counted: every phase, and every
trip of the other loops, is priced as if it waited for the one before. So the price is an upper
bound of the step. Weights count once per side, whatever the number of phases that use them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vlacut.hardware import Link, Side
from vlacut.pricing.columns import FREE, moved
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.overlap import one_way_loops, parallels
from vlacut.pricing.phase_loops import Pipelined
from vlacut.pricing.regions import Parallel
from vlacut.tensor.numerics import Ints


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a cut costs in a control step. Seconds and bytes.

    Attributes:
        edge_s, cloud_s: compute by side.
        up_s, down_s: transfer by direction.
        hop_s: propagation, `hops` times half a round trip.
        bytes_up, bytes_down: what crosses in a control step, in coded form where there is a codec.
        crossings: flows that cross.
        hops: changes of side that follow one another in a control step.
        edge_weight_bytes, cloud_weight_bytes: distinct weights held by side.
        overlap_s: what the sides save by working in parallel.
        parallel: the regions and loops in which they do.
        edge_codec_s, cloud_codec_s: in codecs by side, on top of compute: codecs run on the
            processor that serves the link, not on the accelerator. A side that computes in another
            type than what crosses converts at its border, which counts here too.
        edge_j: joules of the edge; 0 if its power is not known.
    """

    edge_s: float
    cloud_s: float
    up_s: float
    down_s: float
    hop_s: float
    bytes_up: int
    bytes_down: int
    crossings: int
    hops: int
    edge_weight_bytes: int
    cloud_weight_bytes: int
    overlap_s: float = 0.0
    parallel: tuple[Parallel | Pipelined, ...] = ()
    edge_j: float = 0.0
    edge_codec_s: float = 0.0
    cloud_codec_s: float = 0.0

    @property
    def codec_s(self) -> float:
        """Seconds in codecs, on both sides."""
        return self.edge_codec_s + self.cloud_codec_s

    @property
    def local_s(self) -> float:
        """Seconds that do not depend on the link: compute and codecs."""
        return self.edge_s + self.cloud_s + self.codec_s

    @property
    def serial_s(self) -> float:
        """Seconds of a control step if nothing overlapped."""
        return self.local_s + self.up_s + self.down_s + self.hop_s

    @property
    def total_s(self) -> float:
        """Seconds of a control step."""
        return self.serial_s - self.overlap_s

    def over(self, link: Link) -> float:
        """Seconds of a control step of the same cut, with the same codecs, over another link."""
        moved = self.bytes_up / link.up + self.bytes_down / link.down
        serial_s = self.local_s + moved + self.hops * link.hop_s
        return serial_s - sum(one.saved_s(link) for one in self.parallel)

    def bends(self, link: Link) -> list[float]:
        """Seconds per byte up between which the price is a line, the downlink scaled alike."""
        return sorted({place for one in self.parallel for place in one.bends(link)})


@dataclass(frozen=True)
class Strategy:
    """A way to cut, and what it costs: one row of the report.

    Attributes:
        name: of the strategy, e.g. `optimal`, `all-edge`.
        price: of its cut.
        feasible: whether the cut keeps the constraints.
        why_not: the constraint it breaks and by how much; empty if feasible.
    """

    name: str
    price: Price
    feasible: bool
    why_not: str = ""


@dataclass(frozen=True)
class Certificate:
    """How good the best cut found is proven to be.

    Attributes:
        minimised: `latency`, `cloud-time` or `energy`.
        value: of the best cut found: seconds, or joules, of a control step.
        bound: no cut within the limits has less; equal to `value` if the cut is the optimum.
        method: what proved it.
        simpler: why a simpler cut was taken in its place, and what that costs; empty if none was.
    """

    minimised: str
    value: float
    bound: float
    method: str
    simpler: str = ""

    @property
    def proven(self) -> bool:
        """Whether no cut within the limits is better."""
        return self.bound >= self.value

    @property
    def gap(self) -> float:
        """The share of `value` by which a better cut might be better; 0 if there is none."""
        return (self.value - self.bound) / self.value if self.value else 0.0


def price(graph: CostGraph, sides: Sequence[Side], link: Link) -> Price:
    """The price of a cut, given one side per task. Raises ValueError if a pin is not kept."""
    columns, x = graph.columns, in_cloud(sides)
    for index in np.flatnonzero((columns.pinned != FREE) & (columns.pinned != x)).tolist():
        task = graph.tasks[index]
        raise ValueError(f"{task.name} is on the {sides[index]}, but pinned to the {task.pinned}")
    crossed, home = columns.crossed(x), x[columns.producer]
    up = moved(columns, columns.up, crossed & (home == 0))
    down = moved(columns, columns.down, crossed & (home == 1))
    one_way = one_way_loops(graph, x)
    hops = columns.hops(x, [loop.phase for loop in one_way])
    parallel = tuple(parallels(graph, sides, x, one_way))
    found = Price(
        edge_s=sum(columns.edge_s[x == 0].tolist(), 0.0),
        cloud_s=sum(columns.cloud_s[x == 1].tolist(), 0.0),
        up_s=up.nbytes / link.up,
        down_s=down.nbytes / link.down,
        hop_s=hops * link.hop_s,
        bytes_up=up.nbytes,
        bytes_down=down.nbytes,
        crossings=int(np.count_nonzero(crossed)),
        hops=hops,
        edge_weight_bytes=columns.held_bytes(x == 0, on_edge=True),
        cloud_weight_bytes=columns.held_bytes(x == 1),
        overlap_s=sum(one.saved_s(link) for one in parallel),
        parallel=parallel,
        edge_codec_s=up.edge_s + down.edge_s,
        cloud_codec_s=up.cloud_s + down.cloud_s,
    )
    if graph.power is None:
        return found
    busy_s = found.edge_s + found.edge_codec_s
    spent = found.total_s, busy_s, found.bytes_up, found.bytes_down
    return replace(found, edge_j=graph.power.joules(*spent))


def in_cloud(sides: Iterable[Side]) -> Ints:
    """A cut as an array: 1 for every task in the cloud, 0 for the others."""
    return np.array([side is Side.CLOUD for side in sides], dtype=np.int64)
