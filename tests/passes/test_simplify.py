"""simplify: fewer operators, the same bits."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from support.programs import observation, random_program
from support.slow import quick
from support.torch_models import MODELS, denoiser, run_graph, run_program

from vlacut.frontends.normalize import normalize
from vlacut.frontends.onnx import load_graph
from vlacut.frontends.shapes import infer_shapes
from vlacut.frontends.torch import TorchPhase, program_from_torch, shapes_only
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.folding import fold_constants
from vlacut.ir.graphs import value_spec
from vlacut.ir.printer import print_program
from vlacut.ir.program import Phase, Program
from vlacut.ir.rewriting import remove_unused
from vlacut.ir.verifier import verify
from vlacut_passes.simplify import Simplify

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx"))
SHARE_LEFT = {"vit": 0.7, "llama": 0.5, "t5": 0.6, "whisper": 0.6, "denoiser": 1}
SCOPES = "pkg.torch.onnx.name_scopes"


def node_count(program: Program) -> int:
    return sum(len(phase.model.graph) for phase in program.phases)


def assert_same_bits(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> None:
    assert list(one) == list(other)
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        assert array.shape == other[name].shape
        assert array.tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("name", quick([*MODELS, "denoiser"], "llama", "denoiser"))
def test_a_simplified_model_computes_the_same_bits_with_half_the_operators(name: str) -> None:
    _, program = MODELS[name]() if name in MODELS else denoiser()
    example = EXAMPLE.get(program)
    before, count = run_program(program, example), node_count(program)
    weights = weight_names(program)
    paths = scopes(program)
    Simplify().run(program)
    verify(program)
    assert_same_bits(run_program(program, example), before)
    assert node_count(program) <= count * SHARE_LEFT[name]
    assert {name for name in weights if "." in name} - weight_names(program) == set()
    left = scopes(program)
    assert left.items() <= paths.items()
    assert all(left.values())


def weight_names(program: Program) -> set[str]:
    """Names of the float weights that have names of their own."""
    return {
        name
        for phase in program.phases
        for name, value in phase.model.graph.initializers.items()
        if value.dtype is not None and value.dtype.is_floating_point() and "float32." not in name
    }


def scopes(program: Program) -> dict[str, str]:
    return {
        f"{phase.name}/{node.name}": node.metadata_props.get(SCOPES, "")
        for phase in program.phases
        for node in phase.model.graph
    }


@pytest.mark.parametrize("path", quick(LIGHT, LIGHT[-3]), ids=lambda path: path.stem)
def test_a_light_model_is_loaded_and_simplified_to_the_same_bits(path: Path) -> None:
    model = load_graph(path)
    specs = tuple(value_spec(value) for value in model.graph.inputs)
    outputs = tuple(value_spec(value) for value in model.graph.outputs)
    program = Program(path.stem, (Phase("main", model),), specs, outputs)
    verify(program)
    assert len(specs) == 1
    inputs = observation(program)
    reference = run_file(path, inputs)
    before = run_graph(model, inputs)
    for name, array in before.items():
        np.testing.assert_allclose(array, reference[name], rtol=1e-5, atol=1e-12)
    Simplify().run(program)
    verify(program)
    assert_same_bits(run_graph(model, inputs), before)


def run_file(path: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The file as it is, on ONNX Runtime."""
    return run_graph(ir.load(path), inputs)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), phases=st.integers(1, 3))
def test_random_programs_keep_their_bits(seed: int, phases: int) -> None:
    program = random_program(seed, phases)
    observed = observation(program, seed)
    before = run_program(program, observed)
    Simplify().run(program)
    verify(program)
    assert_same_bits(run_program(program, observed), before)


def test_simplifying_again_changes_nothing() -> None:
    _, program = MODELS["llama"]()
    Simplify().run(program)
    once = print_program(program)
    Simplify().run(program)
    assert print_program(program) == once


def test_shapes_alone_simplify_as_weights_do() -> None:
    texts = []
    for build in (contextlib.nullcontext, shapes_only):
        config = transformers.LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
        )
        with build():
            module = transformers.LlamaForCausalLM(config).eval()
        hidden = torch.zeros(1, 5, 32)
        phase = TorchPhase("main", module.model.layers[0].mlp, {"x": hidden}, ("y",))
        program = program_from_torch("p", [phase], ["x"], ["y"])
        Simplify().run(program)
        texts.append(print_program(program))
    assert texts[0] == texts[1]


def graph_of(text: str, **weights: np.ndarray) -> ir.Model:
    """A graph in ONNX's textual form, with weights as initializers, in normal form."""
    model = ir.from_proto(
        onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text}')
    )
    for name, array in weights.items():
        value = next(v for v in model.graph.inputs if v.name == name)
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(array, name=name)
        model.graph.register_initializer(value)
    return model


def simplified(text: str, **weights: np.ndarray) -> ir.Model:
    model = graph_of(text, **weights)
    normalize(model, "test")
    infer_shapes(model, "test")
    specs = tuple(value_spec(value) for value in model.graph.inputs)
    outputs = tuple(value_spec(value) for value in model.graph.outputs)
    program = Program("test", (Phase("main", model),), specs, outputs)
    verify(program)
    inputs = {
        spec.name: array.astype(spec.dtype)
        for spec, array in zip(specs, observation(program).values(), strict=True)
    }
    before = run_graph(model, inputs, "ORT_DISABLE_ALL")
    Simplify().run(program)
    verify(program)
    assert_same_bits(run_graph(model, inputs, "ORT_DISABLE_ALL"), before)
    return model


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("y = Identity(x)", ["Identity"]),
        ("a = Tanh(x) y = Identity(a)", ["Tanh"]),
        ("a = Cast<to=1>(x) y = Tanh(a)", ["Tanh"]),
        ("a = CastLike(x, x) y = Tanh(a)", ["Tanh"]),
        (
            "i = Cast<to=7>(x) t = Exp(x) a = CastLike(i, t) y = Tanh(a)",
            ["Cast", "Cast", "Tanh"],
        ),
        ("a = Transpose<perm=[0,1]>(x) y = Tanh(a)", ["Tanh"]),
        ("a = Transpose(x) b = Transpose(a) y = Tanh(b)", ["Tanh"]),
        ("s = Shape(x) a = Reshape(x, s) y = Tanh(a)", ["Tanh"]),
        ("a = Flatten(x) y = Tanh(a)", ["Tanh"]),
        (
            "k = Constant<value_ints=[1]>() a = Unsqueeze(x, k) b = Squeeze(a, k) y = Tanh(b)",
            ["Tanh"],
        ),
        ("k = Constant<value_float=1.0>() a = Mul(x, k) b = Div(a, k) y = Tanh(b)", ["Tanh"]),
        ("k = Constant<value_float=0.0>() a = Add(x, k) y = Tanh(a)", ["Add", "Tanh"]),
        ("a = Concat<axis=0>(x) y = Tanh(a)", ["Tanh"]),
        ("a = Dropout(x) y = Tanh(a)", ["Tanh"]),
        ("a = Tanh(x) b = Tanh(x) y = Add(a, b)", ["Tanh", "Add"]),
        ("a = Tanh(x) b = Sigmoid(x) y = Tanh(x)", ["Tanh"]),
        (
            "s = Constant<value_ints=[1,0]>() e = Constant<value_ints=[-4,9]>() "
            "t = Constant<value_ints=[-1,1]>() k = Constant<value_ints=[0,1]>() "
            "a = Slice(x, s, e, k, t) y = Tanh(a)",
            ["Slice", "Tanh"],
        ),
        (
            "p = Constant<value_ints=[0,0,0,0]>() a = Pad(x, p) y = Tanh(a)",
            ["Tanh"],
        ),
        (
            "p = Constant<value_ints=[1,0,-1,0]>() a = Pad(x, p) y = Tanh(a)",
            ["Pad", "Tanh"],
        ),
        (
            "s = Shape<start=1>(x) k = Constant<value_ints=[2]>() t = Concat<axis=0>(k, s) "
            "a = Reshape(x, t) y = Tanh(a)",
            ["Tanh"],
        ),
    ],
)
def test_operators_without_effect_go(body: str, left: list[str]) -> None:
    model = simplified(f"g (float[2,3] x) => (float[2,3] y) {{ {body} }}")
    assert kinds(model) == left
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_an_output_that_is_an_input_keeps_its_identity() -> None:
    text = """g (float[2] x) => (float[2] y, float[2] z)
        { a = Identity(x) y = Identity(a) z = Identity(a) }"""
    assert kinds(simplified(text)) == ["Identity", "Identity"]


def test_weights_are_never_folded() -> None:
    text = """g (float[2,3] x, float[3,4] w, float[4] b) => (float[2,4] y)
        { t = Transpose(w) u = Transpose(t) c = Neg(b) m = MatMul(x, u) y = Add(m, c) }"""
    weights = {"w": np.ones((3, 4), np.float32), "b": np.arange(4, dtype=np.float32)}
    model = simplified(text, **weights)
    assert kinds(model) == ["Neg", "MatMul", "Add"]
    assert set(model.graph.initializers) == {"w", "b"}


def test_only_small_values_are_folded() -> None:
    text = """g (int64[1] x) => (int64[100] y)
        { n = Constant<value_int=100>() o = Constant<value_int=0>() d = Constant<value_int=1>()
          r = Range(o, n, d) y = Add(r, x) }"""
    model = graph_of(text)
    normalize(model, "test")
    assert fold_constants(model.clone(), most_elements=99) == 0
    assert fold_constants(model, most_elements=101) == 1
    remove_unused(model)
    assert kinds(model) == ["Add"]
    (folded,) = model.graph.initializers.values()
    np.testing.assert_array_equal(folded.const_value.numpy(), np.arange(100))


@pytest.mark.parametrize("kind", ["Exp", "Pow", "Reciprocal"])
def test_what_implementations_round_differently_is_not_folded(kind: str) -> None:
    operands = "k, k" if kind == "Pow" else "k"
    text = f"""g (float[1] x) => (float[1] y)
        {{ k = Constant<value_floats=[1.7]>() e = {kind}({operands}) y = Add(x, e) }}"""
    assert kind in kinds(simplified(text))


def test_divisions_of_integers_truncate_and_by_zero_stay() -> None:
    text = """g (int64[2] x) => (int64[2] y)
        {{ a = Constant<value_ints=[-7,7]>() b = Constant<value_ints=[2,{}]>()
          d = Div(a, b) y = Add(x, d) }}"""
    model = simplified(text.format(2))
    assert kinds(model) == ["Add"]
    made = run_graph(model, {"x": np.zeros(2, np.int64)})["y"]
    np.testing.assert_array_equal(made, [-3, 3])
    model = graph_of(text.format(0))
    normalize(model, "test")
    assert fold_constants(model) == 0
