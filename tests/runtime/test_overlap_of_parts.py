"""Two towers on two sides really run at once: each waits for the other to have begun."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from support.cutting import plan_of, run_whole, write_cuts
from support.deployments import DIGEST, OrtEngine, served

from vlacut.backend import Engine
from vlacut.hardware import Side
from vlacut.ir.annotation import SECONDS, Seconds
from vlacut.ir.dataflow import trace_dataflow
from vlacut.ir.program import Phase, Program
from vlacut.runtime.edge.session import EdgeSession
from vlacut.split.parts import split
from vlacut.tensor import TensorSpec

WIDTH = 40_000  # floats: a frame is more than the sockets hold without the other side's reading


def two_towers() -> Program:
    """Tanh and sigmoid of one image, added up."""

    def value(name: str) -> ir.Value:
        kind = ir.TensorType(ir.DataType.FLOAT)
        return ir.Value(name=name, shape=ir.Shape((1, WIDTH)), type=kind)

    def node(kind: str, inputs: list[ir.Value], output: str) -> ir.Node:
        return ir.node(kind, inputs, outputs=[value(output)], name=f"node_{output}")

    image = value("image")
    nodes = [node("Tanh", [image], "dino"), node("Sigmoid", [image], "siglip")]
    nodes.append(node("Add", [nodes[0].outputs[0], nodes[1].outputs[0]], "action"))
    graph = ir.Graph(
        [image], [nodes[-1].outputs[0]], nodes=nodes, opset_imports={"": 20}, name="vision"
    )
    spec = (1, WIDTH)
    return Program(
        "towers",
        (Phase("vision", ir.Model(graph, ir_version=10)),),
        (TensorSpec("image", "float32", spec),),
        (TensorSpec("action", "float32", spec),),
    )


class Meeting:
    """An engine that runs once another one is about to as well."""

    def __init__(self, engine: Engine, barrier: threading.Barrier) -> None:
        self._engine = engine
        self._barrier = barrier

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._barrier.wait(20)
        return self._engine.run(inputs)


def check(join: Side) -> None:
    program = two_towers()
    sides = {"node_dino": Side.EDGE, "node_siglip": Side.CLOUD, "node_action": join}
    for node in program.phases[0].model.graph:
        SECONDS.put(node, Seconds(1.0, 0.5))
    dataflow = trace_dataflow(program)
    names = [str(node.name) if node else "" for node in dataflow.nodes]
    write_cuts(dataflow, [sides.get(name, Side.EDGE) for name in names])
    made = split(dataflow)
    plan = plan_of(dataflow, made)
    assert plan.variants[0].price.overlap_s > 0
    barrier = threading.Barrier(2)
    engines: dict[str, Engine] = {}
    for part, model in zip(made.parts, made.models, strict=True):
        engine = OrtEngine(model, part.outputs)
        tower = "vision/action" not in part.outputs
        engines[part.name] = Meeting(engine, barrier) if tower else engine
    assert sum(isinstance(engine, Meeting) for engine in engines.values()) == 2
    observed = {"image": np.random.default_rng(0).standard_normal((1, WIDTH), np.float32)}
    expected = run_whole(program, observed)["action"]
    with (
        served(plan, engines, timeout=20.0) as server,
        EdgeSession(plan, DIGEST, engines, server.address, timeout=20.0) as policy,
    ):
        for _ in range(3):
            np.testing.assert_array_equal(policy.step(observed)["action"], expected)


def test_towers_joined_on_the_edge_run_at_once() -> None:
    check(Side.EDGE)


def test_towers_joined_in_the_cloud_run_at_once() -> None:
    check(Side.CLOUD)
