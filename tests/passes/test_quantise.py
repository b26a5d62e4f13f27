"""Products in 8 bits: what is put around them, how far that moves the output, what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator
from support.exported import llama, program_of

from vlacut.errors import PassError
from vlacut.hardware import load_device
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.dataflow import weights_of
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program
from vlacut.split.emission import save
from vlacut_backends.tensorrt.check import TensorRTChecker
from vlacut_backends.tensorrt.rtx import installed

TEXT = "simplify,quantise{{target={} smallest=1024}}"
TOKENS = np.arange(16)[None] * 5


@pytest.fixture(scope="module")
def plain() -> Program:
    """A Llama whose example, which activations are calibrated with, is what is evaluated below."""
    program = program_of(*llama(2))
    parse_pipeline("simplify").run(program)
    EXAMPLE.put(program, {program.inputs[0].name: TOKENS})
    return program


def copied(program: Program) -> Program:
    (phase,) = program.phases
    model = ir.Model(phase.model.graph.clone(), ir_version=phase.model.ir_version)
    made = Program(program.name, (type(phase)(phase.name, model),), program.inputs, program.outputs)
    made.meta.update(program.meta)
    return made


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
    with pytest.raises(PassError, match="knows int8, float8e4m3fn"):
        parse_pipeline("quantise{target=int3}").run(copied(plain))
    with pytest.raises(PassError, match="no product of a weight of 1000000000"):
        parse_pipeline("quantise{smallest=1000000000}").run(copied(plain))
    hollow = copied(plain)
    next(iter(hollow.phases[0].model.graph.initializers.values())).const_value = None
    with pytest.raises(PassError, match="no content to calibrate with"):
        parse_pipeline("quantise{smallest=1024}").run(hollow)


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
    ("target", "device"), [("int8", "a100"), ("int8", "jetson-agx-orin"), ("float8e4m3fn", "l4")]
)
def test_it_is_built(plain: Program, target: str, device: str, tmp_path: Path) -> None:
    program = copied(plain)
    pipeline = TEXT.format(target) + ",convert-types{source=weights target=float16 keep=unsafe}"
    parse_pipeline(pipeline).run(program)
    file = part(program, tmp_path)
    found = TensorRTChecker().check("main", file, tmp_path, load_device(device), True)
    assert found.findings == ()
    assert found.built
