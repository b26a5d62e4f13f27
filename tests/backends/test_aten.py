"""ATen's operators have the semantics of ONNX's: against ONNX Runtime, one by one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from vlacut.errors import BackendError
from vlacut_backends.aten.module import PartModule
from vlacut_backends.aten.operators import OPERATORS

Case = tuple[str, tuple[Any, ...], Mapping[str, Any]]
_ABC = np.random.default_rng(0)
X = _ABC.standard_normal((2, 4, 6)).astype(np.float32)
Y = _ABC.standard_normal((2, 4, 6)).astype(np.float32)
POSITIVE = np.abs(X) + np.float32(0.5)
UNIT = np.tanh(X) * np.float32(0.9)
WHOLE = np.arange(-24, 24, dtype=np.int64).reshape(2, 4, 6)
TRUE = X > 0
IMAGE = _ABC.standard_normal((2, 4, 7, 9)).astype(np.float32)
SQUARE = _ABC.standard_normal((4, 4)).astype(np.float32)
CHANNELS = _ABC.standard_normal(4).astype(np.float32)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def scalar(number: float) -> np.ndarray:
    return np.array(number, np.float32)


class Known:
    """An input that is an initializer."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


def known(*numbers: int) -> Known:
    return Known(ints(*numbers))


PLAIN = (
    "Abs Ceil Cos Erf Exp Floor Identity IsInf IsNaN Neg Relu Round Sigmoid Sign Sin Softplus Tanh"
)
CASES: list[Case] = [
    *(
        (kind, (X,), {})
        for kind in [*PLAIN.split(), "HardSwish", "HardSigmoid", "Elu", "LeakyRelu"]
    ),
    *((kind, (POSITIVE,), {}) for kind in ("Log", "Sqrt", "Reciprocal")),
    *((kind, (UNIT,), {}) for kind in ("Acos", "Asin", "Atan", "Tan")),
    *((kind, (X, Y), {}) for kind in ("Add", "Sub", "Mul", "Div", "Equal", "Less", "LessOrEqual")),
    *((kind, (X, Y), {}) for kind in ("Greater", "GreaterOrEqual", "PRelu")),
    *((kind, (X, Y, POSITIVE), {}) for kind in ("Max", "Min", "Sum")),
    *((kind, (TRUE, ~TRUE), {}) for kind in ("And", "Or", "Xor")),
    ("Not", (TRUE,), {}),
    ("Where", (TRUE, X, Y), {}),
    ("Div", (WHOLE, ints(5)), {}),
    ("Mod", (WHOLE, ints(5)), {}),
    ("Mod", (X, POSITIVE), {"fmod": 1}),
    ("Pow", (POSITIVE, Y), {}),
    ("Pow", (X, Known(ints(2))), {}),
    ("Gelu", (X,), {"approximate": "tanh"}),
    ("Gelu", (X,), {}),
    ("Clip", (X, scalar(-0.5), scalar(0.5)), {}),
    ("Clip", (X, None, scalar(0.5)), {}),
    ("Softmax", (X,), {"axis": 1}),
    ("LogSoftmax", (X,), {}),
    ("ArgMax", (WHOLE % 3,), {"axis": 1, "keepdims": 0}),
    ("ArgMax", ((WHOLE % 3).astype(np.float32),), {"axis": 2, "select_last_index": 1}),
    ("ArgMin", (X,), {"axis": -1}),
    ("CumSum", (X, Known(np.array(1, np.int32))), {}),
    ("CumSum", (X, Known(np.array(2, np.int32))), {"exclusive": 1, "reverse": 1}),
    ("CumSum", (WHOLE.astype(np.int32), Known(np.array(1, np.int32))), {}),
    ("ReduceSum", (X, known(-1)), {"keepdims": 0}),
    ("ReduceSum", (WHOLE.astype(np.int32), known(1)), {}),
    ("ReduceSum", (X,), {"noop_with_empty_axes": 1}),
    ("ReduceMean", (X, known(0, 2)), {}),
    ("ReduceMax", (X, known(1, 2)), {}),
    ("ReduceMin", (X,), {}),
    ("ReduceProd", (X, known(0, 1)), {"keepdims": 0}),
    ("ReduceL2", (X, known(1)), {}),
    ("ReduceSumSquare", (X, known(1)), {}),
    ("MatMul", (X, _ABC.standard_normal((6, 3)).astype(np.float32)), {}),
    ("MatMul", (X, _ABC.standard_normal(6).astype(np.float32)), {}),
    ("Gemm", (SQUARE, SQUARE, CHANNELS), {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", (SQUARE, SQUARE), {"transB": 1}),
    ("Conv", (IMAGE, _ABC.standard_normal((6, 2, 3, 3)).astype(np.float32)), {"group": 2}),
    (
        "Conv",
        (IMAGE, _ABC.standard_normal((4, 4, 3, 2)).astype(np.float32), CHANNELS),
        {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]},
    ),
    ("AveragePool", (IMAGE,), {"kernel_shape": [2, 3], "strides": [2, 2]}),
    ("MaxPool", (IMAGE,), {"kernel_shape": [3, 2]}),
    ("MaxPool", (X,), {"kernel_shape": [2], "strides": [2]}),
    ("GlobalAveragePool", (IMAGE,), {}),
    ("LayerNormalization", (X, Known(X[0, 0]), Known(Y[0, 0])), {"axis": -1, "epsilon": 1e-3}),
    ("RMSNormalization", (X, Known(X[0, 0])), {"epsilon": 1e-3}),
    ("GroupNormalization", (IMAGE, CHANNELS, CHANNELS), {"num_groups": 2}),
    ("InstanceNormalization", (IMAGE, CHANNELS, CHANNELS), {}),
    ("BatchNormalization", (IMAGE, CHANNELS, CHANNELS, CHANNELS, np.abs(CHANNELS)), {}),
    ("Cast", (X,), {"to": TensorProto.INT32}),
    ("Cast", (X,), {"to": TensorProto.BOOL}),
    ("Cast", (WHOLE,), {"to": TensorProto.FLOAT16}),
    ("Concat", (X, Y), {"axis": -2}),
    ("ConstantOfShape", (known(2, 3),), {"value": numpy_helper.from_array(ints(7))}),
    ("Expand", (X[:, :1], known(2, 4, 1)), {}),
    ("Flatten", (X,), {"axis": -1}),
    ("Flatten", (X,), {"axis": 0}),
    ("Gather", (X, ints(-1, 0)), {"axis": 1}),
    ("Gather", (X, np.array(1, np.int64)), {}),
    ("GatherElements", (X, np.array([[[1, -1], [0, 2]]], np.int64)), {"axis": 2}),
    ("GatherND", (X, np.array([[0, 1], [1, -1]], np.int64)), {}),
    ("ScatterND", (X, np.array([[0, 1], [1, -1]], np.int64), Y[:, 0]), {}),
    ("ScatterElements", (X, np.array([[[1, -1]]], np.int64), Y[:1, :1, :2]), {"axis": 2}),
    ("OneHot", (ints(0, 2, -1), known(4), Known(np.array([0, 5], np.float32))), {}),
    ("OneHot", (ints(0, 2), known(3), Known(np.array([1, 2], np.float32))), {"axis": 0}),
    ("Pad", (X, known(0, 1, 2, 0, 0, 3)), {}),
    ("Pad", (X, known(1, 2), scalar(3), known(-1)), {}),
    ("Range", tuple(Known(np.array(number, np.int64)) for number in (2, 9, 3)), {}),
    ("Reshape", (X, known(0, -1, 2)), {}),
    ("Shape", (X,), {"start": 1}),
    ("Slice", (X, known(-1), known(-9), known(1), known(-2)), {}),
    ("Slice", (X, known(1), known(99), known(-1)), {}),
    ("Split", (X, known(1, 5)), {"axis": 2}),
    ("Split", (IMAGE,), {"axis": 2, "num_outputs": 3}),
    ("Squeeze", (X[:1], known(0)), {}),
    ("Squeeze", (X[:1],), {}),
    ("Tile", (X, known(2, 1, 3)), {}),
    ("TopK", (X, known(2)), {"axis": 1, "largest": 0}),
    ("Transpose", (X,), {"perm": [2, 0, 1]}),
    ("Transpose", (X,), {}),
    ("Trilu", (X,), {"upper": 0}),
    ("Trilu", (X, Known(np.array(1, np.int64))), {}),
    ("Unsqueeze", (X, known(-1, 0)), {}),
    ("DepthToSpace", (IMAGE,), {"blocksize": 2}),
    ("DepthToSpace", (IMAGE,), {"blocksize": 2, "mode": "CRD"}),
    ("QuantizeLinear", (X, scalar(0.02), np.array(3, np.uint8)), {}),
    (
        "QuantizeLinear",
        (X, np.abs(CHANNELS) / 50, np.array([0, 1, -1, 2], np.int8)),
        {"axis": 1},
    ),
    (
        "DequantizeLinear",
        ((WHOLE % 100).astype(np.int8), np.abs(CHANNELS), np.array([0, 1, -1, 2], np.int8)),
        {"axis": 1},
    ),
]
_OUTPUTS = {"Split": 3, "TopK": 2}
_NEWEST = 23  # what ONNX Runtime here reads of operators, with IR version 10


def model_of(case: Case) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    kind, operands, attributes = case
    inputs, weights, names, fed = [], [], [], {}
    for name, operand in zip("abcde", operands, strict=False):
        names.append("" if operand is None else name)
        if isinstance(operand, Known):
            weights.append(numpy_helper.from_array(operand.array, name))
        elif operand is not None:
            kind_of = helper.np_dtype_to_tensor_dtype(operand.dtype)
            inputs.append(helper.make_tensor_value_info(name, kind_of, operand.shape))
            fed[name] = operand
    count = _OUTPUTS.get(kind, 1)
    if kind == "Split" and len(operands) > 1:
        count = 2
    outputs = [helper.make_empty_tensor_value_info(f"y{number}") for number in range(count)]
    node = helper.make_node(kind, names, [one.name for one in outputs], "it", **attributes)
    graph = helper.make_graph([node], "one", inputs, outputs, weights)
    opset = helper.make_opsetid("", _NEWEST if kind == "RMSNormalization" else 21)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return onnx.shape_inference.infer_shapes(model), fed


def _name(case: Case) -> str:
    return case[0]


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_an_operator_is_that_of_onnx(case: Case, tmp_path: Path) -> None:
    model, fed = model_of(case)
    onnx.save(model, tmp_path / "one.onnx")
    wanted = ort.InferenceSession(model.SerializeToString()).run(None, fed)
    module = PartModule(tmp_path / "one.onnx", tmp_path)
    made = module(*(torch.from_numpy(np.array(fed[key])) for key in module.inputs))
    assert len(made) == len(wanted)
    for here, there in zip(made, wanted, strict=True):
        assert here.numpy().dtype == there.dtype
        np.testing.assert_allclose(here.numpy(), there, rtol=1e-5, atol=2e-6)


def test_every_operator_has_a_case() -> None:
    """`Swish` came with operator set 24, which ONNX Runtime here does not have."""
    assert OPERATORS.keys() - {case[0] for case in CASES} == {"Swish"}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (("Det", (SQUARE,), {}), "Det it is not known as an operator of PyTorch here"),
        (("Pad", (X, known(0, 1, 1, 0, 0, 0)), {"mode": "edge"}), "Pad it with mode edge"),
        (
            ("Conv", (IMAGE, IMAGE[:, :, :3, :3]), {"auto_pad": "SAME_UPPER"}),
            "Conv it with auto_pad SAME_UPPER",
        ),
        (
            ("MaxPool", (IMAGE,), {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]}),
            "MaxPool it with pads or dilations",
        ),
        (("Cast", (X,), {"to": TensorProto.UINT64}), "Cast it to element type 13"),
    ],
)
def test_what_is_not_had_is_named(case: Case, message: str, tmp_path: Path) -> None:
    onnx.save(model_of(case)[0], tmp_path / "one.onnx")
    with pytest.raises(BackendError, match=f"part one: {message}"):
        PartModule(tmp_path / "one.onnx", tmp_path)


def test_what_is_no_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(BackendError, match="is no ONNX file"):
        PartModule(tmp_path / "one.onnx", tmp_path)


def test_weights_alone_are_folded_where_that_copies_nothing(tmp_path: Path) -> None:
    """A transposed weight is a view of it; a large sum of weights is made at every run."""
    big = np.ones((600, 600), np.float32)
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("Add", ["t", "w"], ["large"]),
        helper.make_node("MatMul", ["x", "large"], ["y"]),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 600)) for name in "xy"]
    weights = [numpy_helper.from_array(big, "w")]
    graph = helper.make_graph(nodes, "one", value[:1], value[1:], weights)
    onnx.save(helper.make_model(graph, ir_version=10), tmp_path / "one.onnx")
    module = PartModule(tmp_path / "one.onnx", tmp_path)
    places = {one.untyped_storage().data_ptr() for one in module.buffers()}
    assert len(places) == 1
    assert len(list(itertools.chain(module.buffers()))) == 2
    made = module(torch.ones(1, 600))[0]
    assert made[0, 0].item() == pytest.approx(1200)
