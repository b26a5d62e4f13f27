"""Which operators TensorRT's ONNX parser has, in which element types, since which release.

From docs/operators.md of github.com/onnx/onnx-tensorrt at its tags 10.1 (which holds for 10.3, the
oldest release here) and 10.15, and from docs/Changelog.md for what came in between. A release
reads what those before it read; an operator that is not here is not supported.
"""

from __future__ import annotations

import onnx_ir as ir

from vlacut_backends.tensorrt.recipe import Version

_LETTERS = {
    "F": {ir.DataType.FLOAT, ir.DataType.FLOAT16},
    "H": {ir.DataType.BFLOAT16},
    "I": {ir.DataType.INT32, ir.DataType.INT64},
    "i": {ir.DataType.INT32},
    "B": {ir.DataType.BOOL},
    "U": {ir.DataType.UINT8},
    "Q": {ir.DataType.INT8, ir.DataType.INT4, ir.DataType.FLOAT8E4M3FN},
    "q": {ir.DataType.FLOAT4E2M1},
}

# Letters of the types an operator takes, and the operators, by release.
_SINCE = {
    (10, 0): {
        "B": "And Not Or Xor",
        "F": "DeformConv GridSample Mish NonMaxSuppression NonZero RoiAlign",
        "FH": (
            "Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv "
            "ConvTranspose Cos Cosh CumSum Dropout Einsum Elu Erf Exp Floor Gemm GlobalAveragePool "
            "GlobalLpPool GlobalMaxPool GroupNormalization GRU HardSigmoid HardSwish Hardmax "
            "InstanceNormalization IsInf LayerNormalization LeakyRelu Log LogSoftmax LRN LSTM "
            "LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization Pow PRelu "
            "QuantizeLinear RandomNormal RandomNormalLike RandomUniform RandomUniformLike "
            "Reciprocal Resize RNN Round Scan Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt "
            "Tan Tanh ThresholdedRelu Upsample"
        ),
        "FHI": (
            "Abs Add ArgMax ArgMin DepthToSpace Div Equal Gelu Greater GreaterOrEqual IsNaN Less "
            "LessOrEqual Max Mean Min Mod Mul Neg Pad Range ReduceL1 ReduceL2 ReduceLogSum "
            "ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare "
            "Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK"
        ),
        "FHIB": (
            "Concat Constant ConstantOfShape Expand EyeLike Flatten Gather GatherElements GatherND "
            "Identity If Loop OneHot Reshape ReverseSequence Shape Size Slice Split Squeeze Tile "
            "Transpose Trilu Unsqueeze Where"
        ),
        "FHIBU": "Cast CastLike",
        "Q": "DequantizeLinear",
    },
    (10, 4): {"F": "BlackmanWindow HammingWindow HannWindow"},
    (10, 5): {"F": "STFT"},
    (10, 15): {
        "FH": "Attention RMSNormalization RotaryEmbedding",
        "FHi": "TensorScatter",
        "FHI": "Pow",
        "FHIBQq": "Constant",
        "Qq": "DequantizeLinear",
    },
}

# Element types by the compute capability from which on GPUs have them, and the release.
# TensorRT's support matrix, "Hardware and Precision"; for int4 the support matrix of NVIDIA's Model
# Optimizer (Ampere and later); onnx-tensorrt docs/Changelog.md (9.0 bf16 and fp8, 10.0 int4);
# 10.8's release notes (fp4). float64 and 16-bit integers have none.
TYPES: dict[ir.DataType, tuple[int, Version]] = {
    ir.DataType.FLOAT: (0, (8, 0)),
    ir.DataType.FLOAT16: (53, (8, 0)),
    ir.DataType.BFLOAT16: (80, (9, 0)),
    ir.DataType.FLOAT8E4M3FN: (89, (9, 0)),
    ir.DataType.FLOAT4E2M1: (100, (10, 8)),
    ir.DataType.INT4: (80, (10, 0)),
    ir.DataType.INT8: (61, (8, 0)),
    ir.DataType.INT32: (0, (8, 0)),
    ir.DataType.INT64: (0, (9, 0)),
    ir.DataType.UINT8: (0, (8, 5)),
    ir.DataType.BOOL: (0, (8, 0)),
}


def types_of(operator: str, release: Version) -> set[ir.DataType] | None:
    """Element types that a release takes for an operator; None if it lacks the operator."""
    found: set[ir.DataType] = set()
    for since, table in _SINCE.items():
        if since <= release[:2]:
            for letters, operators in table.items():
                if operator in operators.split():
                    found = found.union(*(_LETTERS[letter] for letter in letters))
    return found or None


def first_release(operator: str) -> str:
    """The first release with an operator, e.g. `10.15`; empty if none is known."""
    for since, table in _SINCE.items():
        if any(operator in operators.split() for operators in table.values()):
            return ".".join(map(str, since))
    return ""
