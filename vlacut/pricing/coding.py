"""Coding: which codec every crossing has, what it saves and costs, and what it does to the action.

The cost of a codec on a flow depends only on the flow, the direction and the link. So the cheapest
codec is known before the cut is: in seconds, or in joules if the edge's energy is minimised. A
search over cuts of a graph with coded flows is therefore a search over cuts and codecs together.
It leaves two things out. In a region where both sides work at once, a tensor may arrive in time
without a codec. Under a deadline, a codec that takes more joules may be worth the seconds it saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Union

from vlacut.hardware import Link, Power, Side
from vlacut.pricing.cost_graph import CostGraph, Flow
from vlacut.tensor.codec import Codec, Coding
from vlacut.tensor.split_conformal import rank_of

COVERAGE = 0.95  # of a bound, where nothing else is asked for

Barred = Set[tuple[str, Codec]]  # codecs that flows, by name, may not have


@dataclass(frozen=True)
class Offer:
    """The codings that a flow may have, by the direction in which it crosses."""

    up: tuple[Coding, ...]
    down: tuple[Coding, ...]


@dataclass(frozen=True)
class Choice:
    """The coding of a flow in each direction; None if it goes as it is."""

    up: Coding | None = None
    down: Coding | None = None

    def codec(self, source: Side) -> Codec:
        """The codec where it crosses from a side."""
        found = self.up if source is Side.EDGE else self.down
        return found.codec if found else Codec.NONE


Offers = Mapping[str, Offer]
Choices = Mapping[str, Choice]


@dataclass(frozen=True)
class Bound:
    """A split conformal bound on the error of a fresh observation.

    Drawn as those that it was calibrated on, a fresh observation's error is at most `error` with a
    chance of `coverage` at least, see `vlacut.tensor.split_conformal`. Under a limit the chance
    counts bundles and observations together: that a cut passes and yet a fresh error is over it.

    Attributes:
        error: in the unit of `ActionError`.
        coverage: above 0 and below 1.
        observations: that calibrated it; none of them had a say in the choice of codecs.
        level: the coverage at which it was taken; more than `coverage` where other codecs were
            tried before (`tries`), for all tries share what may be missed.
        tries: how many sets of codecs were held to these observations, this one included.

    Raises ValueError for figures that no calibration can have.
    """

    error: float
    coverage: float
    observations: int
    level: float
    tries: int = 1

    def __post_init__(self) -> None:
        if not (0 < self.coverage <= self.level < 1 and self.error >= 0 and self.tries >= 1):
            raise ValueError("a bound's coverage must be between 0 and 1, its error not negative")
        if not 1 <= self.rank <= self.observations:
            raise ValueError(f"{self.observations} observations bound nothing at {self.level:g}")

    @property
    def rank(self) -> int:
        """Which of the errors it is, the smallest being 1."""
        return rank_of(self.observations, self.level)


@dataclass(frozen=True)
class ActionError:
    """How far the codecs of a cut move the action.

    The error of an observation is the largest absolute difference over all tensors of the action,
    as a share of the largest magnitude in the uncut model's action. What is measured is the error
    on so many observations; only a calibrated bound says something of others.

    Attributes:
        measured: the largest error of all observations; None where none was measured.
        allowed: what `verify` allows on these, in the same unit; None where it cannot be known.
        observations: how many were measured.
        why_not: why none was measured; empty if one was, or nothing is coded.
        bound: on the error of others; None without calibration.

    Raises ValueError for a number of observations below 0.
    """

    measured: Union[float, None] = 0.0
    allowed: Union[float, None] = 0.0
    observations: int = 0
    why_not: str = ""
    bound: Union[Bound, None] = None

    def __post_init__(self) -> None:
        if self.observations < 0:
            raise ValueError("the error of an action is not that of fewer than no observations")


EXACT = ActionError()


@dataclass(frozen=True, kw_only=True)
class CodedCrossing:
    """A tensor that crosses in coded form.

    Attributes:
        tensor: its key.
        source: the side that sends it.
        codec: how it is written.
        raw_bytes, coded_bytes: of a control step, without and with the codec.
        edge_s, cloud_s: seconds that the codec takes, per control step.
        alone: error of the action with this crossing coded and no other; None if not measured.
    """

    tensor: str
    source: Side
    codec: Codec
    raw_bytes: int
    coded_bytes: int
    edge_s: float
    cloud_s: float
    alone: float | None = None


@dataclass(frozen=True)
class Worth:
    """What crossing costs, in units of the quantity that is minimised.

    Attributes:
        second: cost per second of the control step.
        edge_second: cost per second of the edge's processor, on top of that.
        byte_up, byte_down: cost per byte that the edge sends and receives, on top of its seconds.
    """

    second: float = 1.0
    edge_second: float = 0.0
    byte_up: float = 0.0
    byte_down: float = 0.0


SECONDS = Worth()


def joules(power: Power) -> Worth:
    """What crossing costs the edge in joules, see `vlacut.hardware.power`."""
    busy_w = power.busy_w - power.idle_w
    return Worth(power.idle_w, busy_w, power.up_j_per_byte, power.down_j_per_byte)


def cheapest(
    graph: CostGraph,
    offers: Offers,
    link: Link,
    barred: Barred = frozenset(),
    worth: Worth = SECONDS,
) -> CostGraph:
    """The graph with every flow in its cheapest form over a link, in each direction.

    If two forms cost the same, the uncoded one is taken first.
    """
    flows = (_cheapest(flow, offers, link, barred, worth) for flow in graph.flows)
    return replace(graph, flows=tuple(flows))


def _cheapest(flow: Flow, offers: Offers, link: Link, barred: Barred, worth: Worth) -> Flow:
    offer = offers.get(flow.name)
    if offer is None:
        return flow
    up, down = (
        [one for one in codings if (flow.name, one.codec) not in barred]
        for codings in (offer.up, offer.down)
    )
    byte_up = worth.byte_up + worth.second / link.up
    byte_down = worth.byte_down + worth.second / link.down
    return replace(
        flow, up=_least(flow, up, byte_up, worth), down=_least(flow, down, byte_down, worth)
    )


def _least(flow: Flow, codings: Sequence[Coding], byte: float, worth: Worth) -> Coding | None:
    """The coding that costs the least; None if as it is costs no more. `byte` is what one costs."""
    best, least = None, flow.nbytes * byte
    for coding in codings:
        spent = worth.second * (coding.edge_s + coding.cloud_s) + worth.edge_second * coding.edge_s
        if coding.nbytes * byte + spent < least:
            best, least = coding, coding.nbytes * byte + spent
    return best


def coded(graph: CostGraph, choices: Choices) -> CostGraph:
    """The graph with its flows coded by choices; those without one go as they are."""
    raw = Choice()
    chosen = ((flow, choices.get(flow.name, raw)) for flow in graph.flows)
    flows = tuple(replace(flow, up=choice.up, down=choice.down) for flow, choice in chosen)
    return replace(graph, flows=flows)


def choices_of(graph: CostGraph) -> dict[str, Choice]:
    """The choices of the flows that are coded, by name."""
    return {flow.name: Choice(flow.up, flow.down) for flow in graph.flows if flow.up or flow.down}


def crossing_alone(graph: CostGraph, sides: Sequence[Side]) -> CostGraph:
    """The graph with only the flows that cross: the codecs of a cut depend on nothing else."""
    kept = (
        flow
        for flow in graph.flows
        if any(sides[consumer] is not sides[flow.producer] for consumer in flow.consumers)
    )
    return replace(graph, flows=tuple(kept))


def coded_crossings(graph: CostGraph, sides: Sequence[Side]) -> tuple[CodedCrossing, ...]:
    """What crosses in coded form in a cut, in the order of the flows; errors not measured."""
    found: dict[str, CodedCrossing] = {}
    for flow in graph.flows:
        source = sides[flow.producer]
        coding = flow.coding(source)
        crosses = any(sides[consumer] is not source for consumer in flow.consumers)
        if not crosses or coding.codec is Codec.NONE:
            continue
        made = CodedCrossing(
            tensor=flow.name,
            source=source,
            codec=coding.codec,
            raw_bytes=flow.nbytes * flow.count,
            coded_bytes=coding.nbytes * flow.count,
            edge_s=coding.edge_s * flow.count,
            cloud_s=coding.cloud_s * flow.count,
        )
        found[flow.name] = _together(found[flow.name], made) if flow.name in found else made
    return tuple(found.values())


def _together(one: CodedCrossing, other: CodedCrossing) -> CodedCrossing:
    """The two flows of one tensor: in the last trip, and in those before."""
    return replace(
        one,
        raw_bytes=one.raw_bytes + other.raw_bytes,
        coded_bytes=one.coded_bytes + other.coded_bytes,
        edge_s=one.edge_s + other.edge_s,
        cloud_s=one.cloud_s + other.cloud_s,
    )
