"""The observation as JPEG, for models that cannot have it: a row that says what it would save.

Pictures can be coded if they are bytes (`vlacut.tensor.codec`). For a model that takes pictures as
floats, or is planned without `--codecs`, the row counts the bytes and seconds of photographs at
quality 90 (`vlacut.pricing.picture_cost`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vlacut.hardware import Device, Side
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.picture_cost import decode_s, encode_s, usual_bytes
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec
from vlacut.tensor.picture import pictures_in

_CODEC = Codec.JPEG90
_OBSERVATION = 0


def with_jpeg(
    graph: CostGraph,
    observation: Iterable[TensorSpec],
    sides: Sequence[Side],
    edge: Device,
    cloud: Device,
) -> CostGraph | None:
    """The graph with those pictures as JPEG that a cut sends to the cloud; None if there are none.

    Encoding is charged to the observation, decoding to the first task in the cloud that reads it.
    """
    shown = {spec.name: bytes_of(spec) for spec in observation}
    flows, tasks = list(graph.flows), list(graph.tasks)
    edge_s, coded = 0.0, False
    for index, flow in enumerate(flows):
        seen = shown.get(flow.name) if flow.producer == _OBSERVATION else None
        readers = [task for task in flow.consumers if sides[task] is Side.CLOUD]
        if seen and readers:
            nbytes = usual_bytes(_CODEC, seen)
            flows[index] = replace(flow, nbytes=nbytes)
            reader = readers[0]
            spent = decode_s(_CODEC, seen, nbytes, cloud) / graph.trips_of(reader)
            tasks[reader] = replace(tasks[reader], cloud_s=tasks[reader].cloud_s + spent)
            edge_s += encode_s(_CODEC, seen, nbytes, edge)
            coded = True
    if not coded:
        return None
    sensor = tasks[_OBSERVATION]
    tasks[_OBSERVATION] = replace(sensor, edge_s=sensor.edge_s + edge_s)
    return replace(graph, flows=tuple(flows), tasks=tuple(tasks))


def bytes_of(spec: TensorSpec) -> TensorSpec | None:
    """The pictures of a tensor as bytes in colour, on top of each other; None if it has none."""
    pictures = pictures_in(spec)
    if pictures is None:
        return None
    return TensorSpec(spec.name, "uint8", (pictures.count * pictures.height, pictures.width, 3))
