"""A small policy with a denoise loop: Euler steps of a flow from noise to a chunk of commands."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from vlacut.ir.program import Phase, Program
from vlacut.tensor import TensorSpec

LENGTH, WIDTH, STEPS = 6, 4, 5
FLOAT = ir.TensorType(ir.DataType.FLOAT)


def flow_program(steps: int = STEPS) -> Program:
    """Phases `see`, of an image, and `denoise`, which carries `action` to `noise` and a time for
    every command: x <- x - tanh((x + features) W + time) / steps.
    """
    numbers = np.random.default_rng(5)
    weight = _weight("denoise.mix", numbers.standard_normal((WIDTH, WIDTH)) / 2)
    look = _weight("see.look", numbers.standard_normal((WIDTH, WIDTH)) / 2)
    shape = (1, LENGTH, WIDTH)
    image, features = _value("image", (1, 1, WIDTH)), _value("features", (1, 1, WIDTH))
    see = ir.node("MatMul", [image, look], outputs=[features], name="look")
    graph = ir.Graph([image], [features], nodes=[see], initializers=[look], opset_imports={"": 20})
    seen = Phase("see", ir.Model(graph, ir_version=10))
    noise, time = _value("noise", shape), _value("time", (1, LENGTH, 1))
    given = _value("features", (1, 1, WIDTH))
    share, last = _weight("denoise.share", np.array(1 / steps)), _value("action", shape)
    after = _value("time.next", (1, LENGTH, 1))
    nodes, at = [], noise
    for kind, other, size in (
        ("Add", given, shape),
        ("MatMul", weight, shape),
        ("Add", time, shape),
        ("Tanh", None, shape),
        ("Mul", share, shape),
    ):
        made = _value(f"value.{len(nodes)}", size)
        inputs = [at] if other is None else [at, other]
        nodes.append(ir.node(kind, inputs, outputs=[made], name=f"node.{len(nodes)}"))
        at = made
    nodes.append(ir.node("Sub", [noise, at], outputs=[last], name="euler"))
    nodes.append(ir.node("Sub", [time, share], outputs=[after], name="tick"))
    graph = ir.Graph(
        [noise, time, given],
        [last, after],
        nodes=nodes,
        initializers=[weight, share],
        opset_imports={"": 20},
    )
    carried = {"action": "noise", "time.next": "time"}
    loop = Phase("denoise", ir.Model(graph, ir_version=10), steps, carried)
    inputs = (("image", (1, 1, WIDTH)), ("noise", shape), ("time", (1, LENGTH, 1)))
    return Program(
        "flow",
        (seen, loop),
        tuple(TensorSpec(name, "float32", size) for name, size in inputs),
        (TensorSpec("action", "float32", shape),),
    )


def flow_observation(seed: int = 0) -> dict[str, np.ndarray]:
    """Of that program: time begins at 1."""
    numbers = np.random.default_rng(seed)
    return {
        "image": numbers.standard_normal((1, 1, WIDTH)).astype(np.float32),
        "noise": numbers.standard_normal((1, LENGTH, WIDTH)).astype(np.float32),
        "time": np.ones((1, LENGTH, 1), np.float32),
    }


def velocity(program: Program, x: np.ndarray, time: np.ndarray, image: np.ndarray) -> np.ndarray:
    """What the loop goes along, in float64."""
    weights = {
        name: value.const_value.numpy().astype(np.float64)  # type: ignore[union-attr]
        for phase in program.phases
        for name, value in phase.model.graph.initializers.items()
    }
    features = image @ weights["see.look"]
    return np.asarray(np.tanh((x + features) @ weights["denoise.mix"] + time))


def _value(name: str, shape: tuple[int, ...]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=FLOAT)


def _weight(name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array.astype(np.float32), name=name)
    return ir.Value(name=name, shape=tensor.shape, type=FLOAT, const_value=tensor)
