"""Mixed precision: what stays in float32, what is cast, and how far the action moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator
from support.exported import llama, program_of

from vlacut import registry
from vlacut.errors import PassError
from vlacut.frontends.load import load_program
from vlacut.ir.graphs import value_spec
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Phase, Program
from vlacut.ir.rewriting import name_uniquely
from vlacut.ir.uses import key_of
from vlacut.runtime.whole import UncutEpisode
from vlacut.split.emission import whole_phases
from vlacut.split.observations import example_observation, initial_of
from vlacut.split.parts import whole, whole_states
from vlacut_passes.types.values import saturated

OTHERS = [name for name in registry.names("models") if name != "vit-mlp"]
MIXED = "simplify,convert-types{{source=weights target={} keep=unsafe}}"


class Evaluated:
    """An uncut phase by ONNX Runtime, or, where that lacks the type, ONNX's own evaluator."""

    def __init__(self, model: ir.Model, reference: bool) -> None:
        self._names = [str(output.name) for output in model.graph.outputs]
        proto = ir.to_proto(model)
        onnx.checker.check_model(proto, full_check=True)
        self._run = (
            ReferenceEvaluator(proto).run
            if reference
            else ort.InferenceSession(proto.SerializeToString()).run
        )

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self._names, self._run(None, dict(inputs)), strict=True))


def action(program: Program, reference: bool = False) -> np.ndarray:
    """Every tensor of the action in one vector."""
    described = whole_phases(program)
    engines = {
        phase.name: Evaluated(whole(phase, [item.key for item in found.inputs]), reference)
        for phase, found in zip(program.phases, described, strict=True)
    }
    episode = UncutEpisode(described, engines, whole_states(program), initial_of(program))
    made = episode.step(example_observation(program))
    keys = [key_of(program, program.output_source(spec.name)) for spec in program.outputs]
    return np.concatenate([made[key].astype(np.float64).ravel() for key in keys])


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "model",
    [
        "vit-mlp:tiny",
        *(pytest.param(f"{name}:tiny", marks=pytest.mark.slow) for name in OTHERS),
    ],
)
def test_the_action_stays(model: str, precision: str) -> None:
    plain, mixed = load_program(model, {}), load_program(model, {})
    parse_pipeline("simplify").run(plain)
    parse_pipeline(MIXED.format(precision)).run(mixed)
    assert (mixed.inputs, mixed.outputs) == (plain.inputs, plain.outputs)
    found = action(mixed, reference=precision == "bfloat16")
    assert cosine(action(plain), found) >= 0.999


def types_by_operator(program: Program) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for phase in program.phases:
        for node in phase.model.graph:
            found[node.op_type, node.outputs[0].dtype.name] += 1
    return found


def test_what_is_unsafe_is_in_float32_and_nothing_else_is() -> None:
    program = program_of(*llama(2))
    parse_pipeline(MIXED.format("float16")).run(program)
    found = types_by_operator(program)
    for kind in ("Softmax", "Pow", "ReduceMean", "Reciprocal", "Sqrt"):
        assert found[kind, "FLOAT"], kind
        assert not found[kind, "FLOAT16"], kind
    assert found["MatMul", "FLOAT16"] == 2 * 9
    assert not found["MatMul", "FLOAT"]
    weights = program.phases[0].model.graph.initializers.values()
    assert {value.dtype.name for value in weights if value.shape.rank() == 2} == {"FLOAT16"}


def program_of_text(text: str, trips: int = 1, **carried: str) -> Program:
    """A program of one phase, from ONNX's textual form, with its shapes inferred."""
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    model = ir.from_proto(proto)
    name_uniquely(model, "text")
    specs = [
        [value_spec(value) for value in ends] for ends in (model.graph.inputs, model.graph.outputs)
    ]
    return Program("text", (Phase("main", model, trips, carried),), *map(tuple, specs))


HEAD = '<ir_version: 10, opset_import: ["" : 20]>'
# A state that is observation and action, and a step of it.
SAMPLER = """
main (float[1,2] x) => (float[1,2] next) <float[2,2] w = {1, 2, 3, 4}, float dt = {0.1}> {
    v = MatMul(x, w)
    step = Mul(v, dt)
    next = Add(x, step)
}
"""
ANGLES = """
main (int64[4] position) => (float[4,2] out) <float[1,2] frequency = {1, 0.01}> {
    axis = Constant <value_ints = [1]> ()
    number = Cast <to = 1> (position)
    column = Unsqueeze(number, axis)
    angle = MatMul(column, frequency)
    out = Sin(angle)
}
"""
BOTH = """
main (float[1,2] x) => (float[1,2] out) <float[2,2] w = {1, 2, 3, 4}> {
    soft = Softmax(w)
    one = MatMul(x, w)
    out = MatMul(one, soft)
}
"""


def test_a_samplers_state_is_summed_in_its_own_type() -> None:
    program = program_of_text(HEAD + SAMPLER, trips=10, next="x")
    parse_pipeline(MIXED.format("bfloat16")).run(program)
    graph = program.phases[0].model.graph
    types = {node.op_type: node.outputs[0].dtype.name for node in graph if node.op_type != "Cast"}
    assert types == {"MatMul": "BFLOAT16", "Mul": "FLOAT", "Add": "FLOAT"}
    assert [value.dtype.name for value in (*graph.inputs, *graph.outputs)] == ["FLOAT", "FLOAT"]


def test_angles_are_exact_where_positions_are_beyond_the_type() -> None:
    """256 and 257 are one bfloat16; their sines are not."""
    program = program_of_text(HEAD + ANGLES)
    parse_pipeline(MIXED.format("bfloat16")).run(program)
    engine = Evaluated(program.phases[0].model, reference=True)
    position = np.array([0, 1, 256, 257])
    found = engine.run({"position": position})["out"]
    assert np.abs(found - np.sin(position[:, None] * [1.0, 0.01])).max() < 1e-4


def test_finite_numbers_stay_finite() -> None:
    """Masks hold the most negative float32; a row of -inf alone has no softmax."""
    least = np.finfo(np.float32).min
    given = np.array([least, -np.inf, 1e5, 1.0], np.float32)
    made = saturated(given, ir.DataType.FLOAT16)
    assert made.tolist() == [-65504.0, -np.inf, 65504.0, 1.0]


def test_a_weight_read_in_both_types_is_there_in_both() -> None:
    program = program_of_text(HEAD + BOTH)
    parse_pipeline("convert-types{source=float32 target=float16 keep=unsafe}").run(program)
    weights = program.phases[0].model.graph.initializers
    types = {name: value.dtype.name for name, value in weights.items()}
    assert types == {"w": "FLOAT16", "w.float32": "FLOAT"}
    assert weights["w.float32"].const_value.numpy().tolist() == [[1, 2], [3, 4]]


def test_what_it_does_not_do_is_said() -> None:
    with pytest.raises(PassError, match="keep is 'some'"):
        parse_pipeline("convert-types{keep=some}").run(program_of_text(HEAD + SAMPLER))
    with pytest.raises(PassError, match="int8 is none of them"):
        parse_pipeline("convert-types{source=weights target=int8}").run(
            program_of_text(HEAD + SAMPLER)
        )
