"""The observation as JPEG: what all-cloud deployments do in practice. Not bit-exact, so only a row.

What a picture is: see `vlacut.tensor.picture`. It costs, a pixel, the figures below, measured by
`tools/measure_jpeg.py`: the mean over five photographs (astronaut, chelsea and coffee of
scikit-image 0.26, china and flower of scikit-learn 1.9) at 224 x 224, quality 90, by Pillow 13.0
(libjpeg-turbo) on one core of an AMD EPYC server. A robot's core is slower; codecs in hardware are
faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from vlacut.pricing.cost_graph import CostGraph
from vlacut.side import Side
from vlacut.tensor import TensorSpec
from vlacut.tensor.picture import pictures_in

BITS = 2.76
ENCODE_S = 2.7e-9
DECODE_S = 4.9e-9
_OBSERVATION = 0


def with_jpeg(
    graph: CostGraph, observation: Iterable[TensorSpec], sides: Sequence[Side]
) -> CostGraph | None:
    """The graph with those pictures as JPEG that a cut sends to the cloud; None if there are none.

    Encoding is charged to the observation, decoding to the first task in the cloud that reads it.
    """
    held = {spec.name: pictures_in(spec) for spec in observation}
    shown = {name: pictures.pixels for name, pictures in held.items() if pictures}
    flows, tasks, found = list(graph.flows), list(graph.tasks), 0
    for index, flow in enumerate(flows):
        seen = shown.get(flow.name, 0) if flow.producer == _OBSERVATION else 0
        readers = [task for task in flow.consumers if sides[task] is Side.CLOUD]
        if seen and readers:
            flows[index] = replace(flow, nbytes=math.ceil(seen * BITS / 8))
            reader = readers[0]
            spent = tasks[reader].cloud_s + seen * DECODE_S / graph.trips_of(reader)
            tasks[reader] = replace(tasks[reader], cloud_s=spent)
            found += seen
    if not found:
        return None
    sensor = tasks[_OBSERVATION]
    tasks[_OBSERVATION] = replace(sensor, edge_s=sensor.edge_s + found * ENCODE_S)
    return replace(graph, flows=tuple(flows), tasks=tuple(tasks))
