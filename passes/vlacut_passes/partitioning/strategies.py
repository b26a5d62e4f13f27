"""Other ways to cut, on the same graph and the same price.

| name            | its cut                                                                    |
|-----------------|----------------------------------------------------------------------------|
| `all-edge`      | everything that may be on the edge is                                      |
| `all-cloud`     | everything that may be in the cloud is; the observation is sent as it is    |
| `roboecc`       | a suffix of the layers: RoboECC's algorithm 1                              |
| `neurosurgeon`  | a suffix of the layers: the cheapest, transfers and hops included          |
| `fixed-half`    | a suffix of the layers: half of the weights                                |

Three more need the program, see `program_cuts` and `coded.all_cloud_coded`:

| name                | its cut                                                                |
|---------------------|------------------------------------------------------------------------|
| `backbone-in-cloud` | what RoboECC's tables report: the layers of the LLM in the cloud; the  |
|                     | encoders, the embedding and the head on the edge                       |
| `all-cloud-jpeg`    | `all-cloud` with pictures sent as JPEG, where no codec offers that: a  |
|                     | row alone                                                              |
| `all-cloud-coded`   | `all-cloud` with the codecs that the optimum may use                   |

Sources: RoboECC, section IV-A.3 and tables II and III (a cloud load of 12.06 GiB is that of the 32
layers); Kang et al., Neurosurgeon, ASPLOS 2017, figure 9. In Algorithm 1 as printed every
layer can be cut: here a layer is an operator, so a place is the finest there is. The algorithm
compares a time with the optimum after it moved on to the next place. We take the place that it
timed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from vlacut.hardware import Link, Side
from vlacut.ir.annotation import MACHINES, OFFERS, STRUCTURE
from vlacut.ir.dataflow import Dataflow
from vlacut.pricing.coding import Offer
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.cut import Cut, Sides, make_cut
from vlacut.tensor import TensorSpec
from vlacut.tensor.picture import pictures_in
from vlacut_passes.partitioning.jpeg import with_jpeg
from vlacut_passes.partitioning.layer_chain import LayerChain, layer_chain
from vlacut_passes.partitioning.limits import Limits

BACKBONE_IN_CLOUD, ALL_CLOUD_JPEG = "backbone-in-cloud", "all-cloud-jpeg"
ALL_CLOUD_CODED = "all-cloud-coded"
BASELINES = ("all-edge", "all-cloud", "roboecc", "neurosurgeon", "fixed-half")


def all_edge(graph: CostGraph) -> Sides:
    """Everything on the edge but what is pinned to the cloud."""
    return tuple(task.pinned or Side.EDGE for task in graph.tasks)


def all_cloud(graph: CostGraph) -> Sides:
    """Everything in the cloud but what is pinned to the edge, whatever the budget."""
    return tuple(task.pinned or Side.CLOUD for task in graph.tasks)


def roboecc(chain: LayerChain, budget: int | None) -> Sides:
    """Algorithm 1 of RoboECC: from the last layer backwards, while the cloud's load is below the
    budget, the cut with the least *compute* time. The network has no say, as in the paper.
    """
    compute_s, load = chain.compute_s(), chain.held_bytes(Side.CLOUD)
    best = last = len(chain.order)
    for place in range(last, -1, -1):
        if budget is not None and load[place] >= budget:
            break
        if compute_s[place] < compute_s[best]:
            best = place
    return chain.sides(best)


def neurosurgeon(chain: LayerChain, link: Link, budget: int | None) -> Sides:
    """The single cut of the layer chain with the lowest price within the budget."""
    load = chain.held_bytes(Side.CLOUD)
    allowed = np.full(len(load), True) if budget is None else load <= budget
    return chain.sides(chain.cheapest(link, allowed))


def fixed_half(chain: LayerChain) -> Sides:
    """The single cut after which both sides hold as equal shares of the weights as can be."""
    apart = np.abs(chain.held_bytes(Side.EDGE) - chain.held_bytes(Side.CLOUD))
    return chain.sides(int(np.argmin(apart)))


def baselines(graph: CostGraph, link: Link, budget: int | None) -> dict[str, Sides]:
    """The cuts of the strategies that need nothing but a graph, in the order of `BASELINES`."""
    chain = layer_chain(graph)
    return {
        "all-edge": all_edge(graph),
        "all-cloud": all_cloud(graph),
        "roboecc": roboecc(chain, budget),
        "neurosurgeon": neurosurgeon(chain, link, budget),
        "fixed-half": fixed_half(chain),
    }


def strategy_cut(name: str, graph: CostGraph, sides: Sides, link: Link, limits: Limits) -> Cut:
    """The cut of a strategy, with the limits it breaks."""
    cut = make_cut(graph, sides, link, name=name, origin="strategy")
    return replace(cut, why_not=limits.broken(cut.price))


def program_cuts(dataflow: Dataflow, graph: CostGraph, link: Link, limits: Limits) -> Iterator[Cut]:
    """The cuts of the strategies that need more of the program than its cost graph.

    `backbone-in-cloud` is left out without `annotate-structure`, or where a pin forbids it;
    `all-cloud-jpeg` where no picture goes to the cloud, or `annotate-codecs` offers to code it.
    """
    sides = _backbone_in_cloud(dataflow, graph)
    if sides is not None:
        yield strategy_cut(BACKBONE_IN_CLOUD, graph, sides, link, limits)
    machines, offers = MACHINES.find(dataflow.program), OFFERS.find(dataflow.program) or {}
    seen = [spec for spec in dataflow.program.inputs if not _coded(offers.get(spec.name))]
    everything = all_cloud(graph)
    shown = machines and with_jpeg(graph, seen, everything, machines.edge, machines.cloud)
    if shown:
        cut = strategy_cut(ALL_CLOUD_JPEG, shown, everything, link, limits)
        yield replace(cut, why_not="; ".join(filter(None, (_why_no_jpeg(seen), cut.why_not))))


def _coded(offer: Offer | None) -> bool:
    """Whether pictures may be coded as such."""
    return offer is not None and any(coding.codec.varies for coding in offer.up)


def _why_no_jpeg(seen: Iterable[TensorSpec]) -> str:
    pictures = (spec for spec in seen if pictures_in(spec))
    other = next((spec for spec in pictures if spec.dtype != "uint8"), None)
    if other is None:
        return "not bit-exact: --codecs jpeg90 allows it"
    return f"not bit-exact; {other.name} is {other.dtype}: --codecs jpeg90 needs pictures of uint8"


def _backbone_in_cloud(dataflow: Dataflow, graph: CostGraph) -> Sides | None:
    sides = []
    for node, task in zip(dataflow.nodes, graph.tasks, strict=True):
        structure = STRUCTURE.find(node) if node is not None else None
        if node is not None and structure is None:
            return None
        side = Side.CLOUD if structure and structure.stage == "backbone" else Side.EDGE
        if task.pinned not in (None, side):
            return None
        sides.append(side)
    return tuple(sides)
