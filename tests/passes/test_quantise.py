"""Products in 8 and 4 bits: what stands around them, how far the output moves, what is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from support.exported import llama, program_of, vit
from support.onnx_text import write
from support.slow import quick

from vlacut.errors import InputError, PassError
from vlacut.frontends.load import load_program
from vlacut.hardware import Side, load_device
from vlacut.ir.annotation import CONVERTED, COST, EXAMPLE, PINNED
from vlacut.ir.dataflow import weights_of
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Phase, Program, copied
from vlacut.split.emission import save
from vlacut.tensor.numerics import relative_difference
from vlacut_backends.tensorrt.check import TensorRTChecker
from vlacut_backends.tensorrt.rtx import installed
from vlacut_passes.quantising import rounding
from vlacut_passes.quantising.observing import Observed, observations
from vlacut_passes.quantising.products import products
from vlacut_passes.quantising.rounding import Grams, block_scales, gptq, to_nearest

TEXT = "simplify,quantise{{weights={} smallest=1024}}"
TOKENS = np.arange(16)[None] * 5


@pytest.fixture(scope="module")
def plain() -> Program:
    """A Llama whose example, which activations are calibrated with, is what is evaluated below."""
    program = program_of(*llama(2))
    parse_pipeline("simplify").run(program)
    EXAMPLE.put(program, {program.inputs[0].name: TOKENS})
    return program


def evaluate(program: Program, tokens: np.ndarray) -> np.ndarray:
    proto = ir.to_proto(program.phases[0].model)
    onnx.checker.check_model(proto, full_check=True)
    (found,) = ReferenceEvaluator(proto).run(None, {proto.graph.input[0].name: tokens})
    return np.asarray(found).astype(np.float64).ravel()


@pytest.mark.parametrize(
    ("target", "then", "bound"),
    [
        ("int8", "", 0.9995),
        ("float8e4m3fn", "", 0.997),
        ("int8", ",convert-types{source=weights target=float16 keep=unsafe}", 0.9995),
    ],
)
def test_the_output_stays(plain: Program, target: str, then: str, bound: float) -> None:
    program = copied(plain)
    parse_pipeline(TEXT.format(target) + then).run(program)
    one, other = evaluate(plain, TOKENS), evaluate(program, TOKENS)
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) >= bound
    assert not np.array_equal(one, other)


def test_weights_are_stored_in_8_bits(plain: Program) -> None:
    program = copied(plain)
    parse_pipeline(TEXT.format("int8")).run(program)
    weights = program.phases[0].model.graph.initializers
    large = {name: value for name, value in weights.items() if value.shape.rank() == 2}
    types = {value.dtype for name, value in large.items() if "embed" not in name}
    assert types == {ir.DataType.INT8}
    assert sum(weights_of(program).values()) < 0.45 * sum(weights_of(plain).values())
    kinds = [node.op_type for node in program.phases[0].model.graph]
    assert kinds.count("DequantizeLinear") == 2 * kinds.count("QuantizeLinear") == 2 * 14


def test_what_cannot_be_quantised_is_said(plain: Program) -> None:
    with pytest.raises(PassError, match="knows int8, float8e4m3fn, int4"):
        parse_pipeline("quantise{weights=int3}").run(copied(plain))
    with pytest.raises(PassError, match="no product of a weight of 1000000000"):
        parse_pipeline("quantise{smallest=1000000000}").run(copied(plain))
    hollow = copied(plain)
    next(iter(hollow.phases[0].model.graph.initializers.values())).const_value = None
    with pytest.raises(PassError, match="no content to calibrate with"):
        parse_pipeline("quantise{smallest=1024}").run(hollow)


INSIDE = """main (float[4,64] x, bool flag) => (float[4,64] z) {
    y = If (flag) <
        then_branch = then_graph () => (float[4,64] a) { a = MatMul(x, first) },
        else_branch = else_graph () => (float[4,64] b) { b = MatMul(x, second) }
    >
    z = %s
}"""


def test_products_inside_of_operators_are_told(tmp_path: Path) -> None:
    weights = {
        name: np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
        for name in ("first", "second", "third")
    }
    inside = {name: weights[name] for name in ("first", "second")}
    alone = load_program(str(write(tmp_path / "alone.onnx", INSIDE % "Neg(y)", inside)))
    said = "outside of operators; 2 inside of If .* stay as they are .*--fix.* phase with trips"
    with pytest.raises(PassError, match=said):
        parse_pipeline("quantise{weights=int4 method=rtn}").run(alone)
    both = load_program(str(write(tmp_path / "both.onnx", INSIDE % "MatMul(y, third)", weights)))
    parse_pipeline("quantise{weights=int4 method=rtn}").run(both)
    said = CONVERTED.find(both) or ""
    assert "2 inside of If" in said
    names = both.phases[0].model.graph.initializers
    assert {"first", "second"} < set(names)
    assert "third" not in names


FOUR = "simplify,quantise{{weights=int4 smallest=1024 {}}}"


def moved(plain: Program, options: str) -> tuple[Program, list[float]]:
    """A program in 4 bits, and how far it moves the output on observations it has not seen."""
    program = copied(plain)
    parse_pipeline(FOUR.format(options)).run(program)
    before, after = Observed(plain), Observed(program)
    fresh = observations(plain, 44)[40:]
    return program, [relative_difference(after.step(one), before.step(one)) for one in fresh]


@pytest.mark.parametrize("model", quick(["llama", "vit"], "vit"))
def test_gptq_moves_the_output_less_than_rounding_to_the_nearest(model: str) -> None:
    torch.manual_seed(0)
    exported = program_of(*(llama(2) if model == "llama" else vit(2)))
    spec = exported.inputs[0]
    picture = np.random.default_rng(0).normal(size=spec.numpy_shape).astype(np.float32)
    EXAMPLE.put(exported, {spec.name: TOKENS if model == "llama" else picture})
    _, nearest = moved(exported, "method=rtn")
    program, rounded = moved(exported, "method=gptq observations=32")
    assert 0 < np.mean(rounded) < 0.9 * np.mean(nearest)
    assert "in groups of 32 at most by gptq over 32 observations" in CONVERTED.get(program)


@pytest.mark.parametrize("rows", [1, 4, 400])
def test_gptq_is_never_worse_than_the_nearest_on_what_was_held_out(rows: int) -> None:
    """Fitted to a row or four, to make up for errors there would add to them elsewhere."""
    numbers = np.random.default_rng(rows)
    mixing = numbers.normal(size=(64, 64))
    few, others = (numbers.normal(size=(count, 64)) @ mixing for count in (rows, 200))
    grams = Grams(*((x.T @ x).astype(np.float32) for x in (few, others)))
    weight = numbers.normal(size=(64, 32)).astype(np.float32)
    nearest = to_nearest(weight, block_scales(weight, 32), 32)
    lost = [
        float(np.square(others @ (made.restored() - weight)).sum())
        for made in (gptq(weight, 32, grams), nearest)
    ]
    assert lost[0] <= lost[1] * 1.0001
    assert rows < 400 or lost[0] < 0.8 * lost[1]


@pytest.mark.parametrize("weighted", [False, True])
def test_a_weight_is_rounded_in_pieces_as_it_is_at_once(
    weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = np.random.default_rng(3)
    weight = numbers.standard_normal((7 * 32, 40)).astype(np.float32)
    importance = numbers.random(7 * 32, np.float32) if weighted else None
    scales = block_scales(weight, 32, importance)
    codes = to_nearest(weight, scales, 32).codes
    monkeypatch.setattr(rounding, "_CACHED", 3 * 32 * 40)  # two pieces of 3 blocks, one of 1
    assert np.array_equal(block_scales(weight, 32, importance), scales)
    assert np.array_equal(to_nearest(weight, scales, 32).codes, codes)


@pytest.mark.parametrize("weights", ["int4", "int8"])
def test_what_was_recorded_is_what_is_fitted_to(weights: str, tmp_path: Path) -> None:
    """Of 80 observations the quarter that bounds no codec; of 8 bits the range of activations."""
    file = tmp_path / "one.onnx"
    numbers = np.random.default_rng(0)
    array = numbers.normal(size=(64, 64)).astype(np.float32)
    body = "main (float[4,64] x) => (float[4,64] y) { y = MatMul(x, w) }"
    plain = load_program(str(write(file, body, {"w": array})))
    mixing = numbers.normal(size=(64, 64))
    seen = (numbers.normal(size=(80, 4, 64)) @ mixing).astype(np.float32)
    np.savez(tmp_path / "seen.npz", x=seen)
    assert len(observations(plain, 32, str(tmp_path / "seen.npz"))) == 20
    lost = []
    for recorded in ("", f" calibration={tmp_path / 'seen.npz'}"):
        program = copied(plain)
        parse_pipeline(f"quantise{{weights={weights} smallest=1024{recorded}}}").run(program)
        run = ReferenceEvaluator(ir.to_proto(program.phases[0].model)).run
        wrong = [run(None, {"x": one})[0] - one @ array for one in seen[40:]]
        lost.append(float(np.square(wrong).sum()))
    assert lost[1] < 0.8 * lost[0]


def test_recorded_observations_that_do_not_fit_are_named(plain: Program, tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", other=np.zeros(3, np.float32))
    text = FOUR.format(f"calibration={tmp_path / 'odd.npz'}")
    with pytest.raises(InputError, match=r"odd\.npz: has no input"):
        parse_pipeline(text).run(copied(plain))


def test_codes_and_scales_are_what_is_stored(plain: Program) -> None:
    program = copied(plain)
    parse_pipeline(FOUR.format("method=rtn group=32")).run(program)
    model = program.phases[0].model
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    codes = [v for v in model.graph.initializers.values() if v.dtype == ir.DataType.INT4]
    kinds = [node.op_type for node in model.graph]
    assert len(codes) == kinds.count("DequantizeLinear") == 14
    matrices = sum(weight.shape[0] * weight.shape[1] for weight in codes)  # type: ignore[index]
    sizes = weights_of(program)
    stored = sum(nbytes for name, nbytes in sizes.items() if ".int4." in name)
    assert stored == matrices // 2 + matrices // 32 * 4  # half a byte, and a float32 for 32 of them


def test_a_plan_needs_no_content(plain: Program) -> None:
    whole, hollow = copied(plain), copied(plain)
    for value in hollow.phases[0].model.graph.initializers.values():
        value.const_value = None
    with pytest.raises(PassError, match=r"measured on the action.*give --weights"):
        parse_pipeline(FOUR.format("error=0.1")).run(copied(hollow))
    for program in (whole, hollow):
        parse_pipeline(FOUR.format("method=rtn")).run(program)
    assert weights_of(hollow) == weights_of(whole)
    assert "without content" in CONVERTED.get(hollow)


@pytest.mark.parametrize("target", ["int8", "float8e4m3fn"])
def test_a_plan_in_8_bits_needs_no_content(plain: Program, target: str) -> None:
    """Codes and scales of channels are as large, and operators the same."""
    whole, hollow = copied(plain), copied(plain)
    for value in hollow.phases[0].model.graph.initializers.values():
        value.const_value = None
    text = TEXT.format(target)
    with pytest.raises(PassError, match=r"measured on the action.*give --weights"):
        parse_pipeline(text.replace("}", " error=0.1}")).run(copied(hollow))
    for program in (whole, hollow):
        parse_pipeline(text).run(program)
    sizes, others = weights_of(hollow), weights_of(whole)
    scales = {name for name in sizes if name.endswith(".input.scale")}  # of activations
    assert {sizes.pop(name) for name in scales} == {4}
    assert len(scales) == 14
    assert sizes == {name: nbytes for name, nbytes in others.items() if name in sizes}
    assert all("scalar" in name for name in others.keys() - sizes)
    kinds = [[n.op_type for n in one.phases[0].model.graph] for one in (whole, hollow)]
    assert kinds[0] == kinds[1]
    assert "without content" in CONVERTED.get(hollow)


def test_phases_that_share_a_weight_share_its_codes(plain: Program) -> None:
    one, other = copied(plain).phases[0], copied(plain).phases[0]
    phases = (Phase("first", one.model), Phase("second", other.model))
    both = Program("both", phases, plain.inputs, plain.outputs)
    both.meta.update(plain.meta)
    alone = copied(plain)
    for program in (both, alone):
        parse_pipeline(FOUR.format("observations=2")).run(program)
    assert weights_of(both) == weights_of(alone)
    contents = [
        {
            name: value.const_value.tobytes()  # type: ignore[union-attr]
            for name, value in phase.model.graph.initializers.items()
        }
        for phase in (*both.phases, *alone.phases)
    ]
    assert contents[0] == contents[1]
    # Both phases see the same rows, so that what GPTQ makes of them is what it makes of one.
    assert contents[0] == contents[2]


@pytest.mark.parametrize(("weights", "bound"), [("int4 method=rtn", 0.08), ("int8", 0.01)])
def test_what_moves_the_action_most_stays_exact_until_a_bound_holds(
    plain: Program, weights: str, bound: float
) -> None:
    text = f"quantise{{{{weights={weights} smallest=1024 observations=2{{}}}}}}"
    freely, program = copied(plain), copied(plain)
    parse_pipeline(text.format("")).run(freely)
    parse_pipeline(text.format(f" error={bound}")).run(program)
    seen = observations(plain, 2)
    before = Observed(plain)

    def error(of: Program) -> float:
        after = Observed(of)
        return max(relative_difference(after.step(one), before.step(one)) for one in seen)

    assert error(program) <= bound < error(freely)
    inside = [f".{weights[:4]}." in name for name in weights_of(program)]
    assert 0 < sum(inside) / 2 < 14  # codes and scales each
    exact = copied(plain)
    parse_pipeline(text.format(" error=1e-9")).run(exact)
    assert error(exact) == 0


def test_what_a_list_has_stays_exact(plain: Program) -> None:
    program, (first, *rest) = copied(plain), products(plain.phases[0].model.graph, 1024)
    last = str(rest[-1].node.name)  # by the name of its operator
    text = "quantise{{weights=int8 smallest=1024 exact={}}}"
    parse_pipeline(text.format(f"{first.name[:-1]}?;{last}")).run(program)
    kept = [name for name in weights_of(program) if name in {one.name for one in (first, *rest)}]
    assert kept == [first.name, rest[-1].name]
    with pytest.raises(PassError, match="no product or its weight is 'nowhere"):
        parse_pipeline(text.format("nowhere*")).run(copied(plain))


def test_an_embedding_reads_rows_of_codes(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(64, 96)).astype(np.float32)
    body = "main (int64[5] ids) => (float[5,96] y) { y = Gather(table, ids) }"
    program = load_program(str(write(tmp_path / "rows.onnx", body, {"table": table})))
    text = "quantise{{weights=int4 smallest=1024{}}}"
    with pytest.raises(PassError, match="no product of a weight"):
        parse_pipeline(text.format("")).run(copied(program))
    devices = "annotate-cost{edge=jetson-agx-orin cloud=a100}"
    parse_pipeline(f"{text.format(' embeddings=true')},{devices}").run(program)
    graph = program.phases[0].model.graph
    codes, scales = (graph.initializers[f"table.int4.g32.rows{end}"] for end in ("", ".scale"))
    assert (codes.const_value.numpy().shape, scales.const_value.numpy().shape) == (  # type: ignore[union-attr]
        (64, 96),
        (64, 3),
    )
    restore, lookup = graph
    assert COST.get(restore).bytes_moved == 0
    assert COST.get(lookup).weight_bytes == 5 * (96 // 2 + 3 * 4)  # codes and scales of its rows
    (found,) = ReferenceEvaluator(ir.to_proto(program.phases[0].model)).run(
        None, {"ids": np.array([0, 63, 1, 1, 5])}
    )
    assert 0 < np.abs(found - table[[0, 63, 1, 1, 5]]).max() < np.abs(table).max() / 13


def test_a_gemm_keeps_its_bias(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    weights = {
        "w": numbers.normal(size=(48, 64)).astype(np.float32),  # outputs, inputs
        "b": np.arange(48, dtype=np.float32),
    }
    body = "main (float[3,64] x) => (float[3,48] y) { y = Gemm<transB=1>(x, w, b) }"
    program = load_program(str(write(tmp_path / "gemm.onnx", body, weights)))
    before, after = Observed(program), copied(program)
    parse_pipeline("quantise{weights=int4 smallest=1024 observations=4}").run(after)
    kinds = [node.op_type for node in after.phases[0].model.graph]
    assert kinds == ["DequantizeLinear", "MatMul", "Add"]
    (seen,) = observations(program, 1)
    assert 0 < relative_difference(Observed(after).step(seen), before.step(seen)) < 0.1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("group=48", "group is 48, must be one of"),
        ("activations=int2", "activations is 'int2'; leave it out, or write float"),
        ("method=awq", "method is 'awq', must be rtn or gptq"),
        ("observations=0", "at least 1"),
    ],
)
def test_options_of_4_bits_are_checked(plain: Program, options: str, said: str) -> None:
    with pytest.raises(PassError, match=said):
        parse_pipeline(f"simplify,quantise{{weights=int4 {options}}}").run(copied(plain))


def test_inputs_that_are_no_whole_blocks_are_named(tmp_path: Path) -> None:
    weight = np.ones((100, 64), np.float32)
    body = "main (float[3,100] x) => (float[3,64] y) { y = MatMul(x, w) }"
    program = load_program(str(write(tmp_path / "odd.onnx", body, {"w": weight})))
    with pytest.raises(PassError, match="a matrix with a number of inputs that 16 divides"):
        parse_pipeline("quantise{weights=int4 smallest=1024}").run(program)
    PINNED.put(program.phases[0].model.graph[0], Side.EDGE)
    for side in Side:  # where they are on a side, the other need not have any
        parse_pipeline(f"quantise{{weights=int4 smallest=1024 side={side}}}").run(program)
    assert CONVERTED.get(program) == "edge: nothing to int4; cloud: nothing to int4"


def part(program: Program, folder: Path) -> Path:
    save(program.phases[0].model, folder / "parts" / "main.onnx")
    return folder / "parts" / "main.onnx"


def test_float8_is_refused_where_no_unit_has_it(plain: Program, tmp_path: Path) -> None:
    program = copied(plain)
    parse_pipeline(TEXT.format("float8e4m3fn")).run(program)
    file, check = part(program, tmp_path), TensorRTChecker().check
    found = check("main", file, tmp_path, load_device("a100"), False).findings
    assert {finding.rule for finding in found} == {"element-type"}
    assert found[0].node.startswith("QuantizeLinear node_linear")
    assert check("main", file, tmp_path, load_device("h100"), False).findings == ()


@pytest.mark.skipif(not installed(), reason="needs TensorRT-RTX: vlacut[rtx]")
@pytest.mark.parametrize(
    ("target", "device"),
    [
        ("int8", "a100"),
        ("int8", "jetson-agx-orin"),
        ("int4 method=rtn", "a100"),
        ("int4 method=rtn", "jetson-agx-orin"),
        ("float8e4m3fn", "l4"),
    ],
)
def test_it_is_built(plain: Program, target: str, device: str, tmp_path: Path) -> None:
    program = copied(plain)
    pipeline = TEXT.format(target) + ",convert-types{source=weights target=float16 keep=unsafe}"
    parse_pipeline(pipeline).run(program)
    file = part(program, tmp_path)
    there = load_device(device)
    assert there.cuda is not None
    if target.startswith("int4"):  # of opset 21, which older releases are not known to read
        there = replace(there, cuda=replace(there.cuda, oldest="10.15"))
    found = TensorRTChecker().check("main", file, tmp_path, there, True)
    assert found.findings == ()
    assert found.built
