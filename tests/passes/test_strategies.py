"""Rows of the report that need the program: the paper's placement, and pictures as JPEG."""

from __future__ import annotations

import dataclasses
import math

import pytest
from support.random_graphs import chain_graph
from support.zoo import traced

from vlacut.errors import InfeasibleError, PassError
from vlacut.hardware import Link, Side, load_device
from vlacut.ir.annotation import CUTS, STRUCTURE
from vlacut.ir.dataflow import trace_dataflow, weights_of
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program
from vlacut.pricing.picture_cost import USUAL_BITS, decode_s, encode_s, usual_bytes
from vlacut.pricing.price import price
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec
from vlacut_passes.partitioning.jpeg import bytes_of, with_jpeg

EDGE, CLOUD = Side.EDGE, Side.CLOUD
ANNOTATED = "simplify,annotate-structure,annotate-cost{edge=jetson-agx-orin cloud=a100}"


@pytest.fixture(scope="module")
def openvla() -> Program:
    program = traced("openvla")
    parse_pipeline(ANNOTATED).run(program)
    return program


def test_jpeg_costs_its_bytes_and_its_codec() -> None:
    """By hand: a picture of 64 x 32 to the cloud, 10 bytes back, 1 s of compute there."""
    graph = chain_graph([(9, 1)], [4 * 3 * 64 * 32, 10], [0])
    graph = dataclasses.replace(
        graph, flows=(dataclasses.replace(graph.flows[0], name="image"), graph.flows[1])
    )
    seen = (TensorSpec("image", "float32", (1, 3, 64, 32)), TensorSpec("v1", "float32", (4,)))
    link, device = Link(1e3, 1e6, 0.5), load_device("a100")
    shown = with_jpeg(graph, seen, (EDGE, CLOUD, EDGE), device, device)
    assert shown is not None
    cost = price(shown, (EDGE, CLOUD, EDGE), link)
    held, jpeg = TensorSpec("image", "uint8", (64, 32, 3)), Codec.JPEG90
    assert cost.bytes_up == math.ceil(64 * 32 * USUAL_BITS[jpeg] / 8)
    edge_s = encode_s(jpeg, held, cost.bytes_up, device)
    cloud_s = decode_s(jpeg, held, cost.bytes_up, device)
    assert cost.edge_s == pytest.approx(edge_s)
    assert cost.cloud_s == pytest.approx(1 + cloud_s)
    assert cost.total_s == pytest.approx(
        edge_s + cloud_s + 1 + cost.bytes_up / 1e3 + 10 / 1e6 + 2 * 0.25
    )
    assert with_jpeg(graph, seen, (EDGE, EDGE, EDGE), device, device) is None
    assert with_jpeg(graph, seen[1:], (EDGE, CLOUD, EDGE), device, device) is None


@pytest.mark.slow
def test_the_papers_placement_has_the_layers_of_the_llm_in_the_cloud(openvla: Program) -> None:
    parse_pipeline("partition{link=10MB/s,20ms strategy=backbone-in-cloud}").run(openvla)
    chosen = CUTS.get(openvla).chosen
    assert chosen.name == "backbone-in-cloud"
    layers = sum(nbytes for name, nbytes in weights_of(openvla).items() if ".layers." in f".{name}")
    assert layers <= chosen.price.cloud_weight_bytes <= 1.05 * layers
    # Embedding and head stay on the edge, so every token crosses: 7 tokens, there and back.
    assert chosen.price.hops == 14
    dataflow = trace_dataflow(openvla)
    for node, side in zip(dataflow.nodes, chosen.sides, strict=True):
        backbone = node is not None and STRUCTURE.get(node).stage == "backbone"
        assert side is (CLOUD if backbone else EDGE)


def test_jpeg_is_a_row_and_no_cut(openvla: Program) -> None:
    with pytest.raises(PassError, match="has no strategy 'all-cloud-jpeg'"):
        parse_pipeline("partition{strategy=all-cloud-jpeg}").run(openvla)
    parse_pipeline("partition{link=10MB/s,20ms}").run(openvla)
    rows = {row.name: row for row in CUTS.get(openvla).strategies}
    row, raw = rows["all-cloud-jpeg"], rows["all-cloud"]
    assert not row.feasible
    assert row.why_not.endswith("is float32: --codecs jpeg90 needs pictures of uint8")
    assert raw.feasible
    (pictures,) = (spec for spec in openvla.inputs if len(spec.shape) == 4)
    held = bytes_of(pictures)
    assert held is not None
    saved = pictures.nbytes - usual_bytes(Codec.JPEG90, held)
    assert raw.price.bytes_up - row.price.bytes_up == saved


def test_a_placement_that_breaks_the_budget_is_refused(openvla: Program) -> None:
    with pytest.raises(InfeasibleError, match="backbone-in-cloud"):
        parse_pipeline("partition{strategy=backbone-in-cloud cloud-budget=1kB}").run(openvla)
