"""ONNX Runtime, the compile half: parts run as they are but for what weights alone make, if the CPU
has a kernel for every type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import onnx_ir as ir

from vlacut.backend import OWN, Finding
from vlacut.errors import BackendError
from vlacut.hardware import Device
from vlacut_backends.onnxruntime.blocks import join_blocks
from vlacut_backends.onnxruntime.external_data import PACKED_FLOATS
from vlacut_backends.onnxruntime.fold import fold_weights
from vlacut_backends.onnxruntime.integers import join_integers
from vlacut_backends.onnxruntime.layouts import choose_layouts
from vlacut_backends.onnxruntime.places import write_places

# ONNX Runtime 1.23, the last for Python 3.10, reads these at most.
_MAX_IR_VERSION = 11
_MAX_OPSET = 23
# Of basic optimisation, what would break a promise: folding constants copies what it makes of
# weights into every session (`fold.py` does that once, into the bundle), and the fusions round
# otherwise than the operators they join, so that a cut between those would change the last bit
# (seen: MatMul and Add, 5e-7 in CogACT's projector).
_LEFT_OUT = (
    "ConstantFolding",
    "MatMulAddFusion",
    "GemmSumFusion",
    "ConvAddFusion",
    "ConvMulFusion",
    "ConvBNFusion",
    "MatmulBNFusion",
)
_NO_KERNELS = {ir.DataType.BFLOAT16, ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E5M2}
# Around float16 kernels ONNX Runtime casts to float32 and drops pairs of casts inside a part, so a
# cut moves roundings: eight of them, the last place of float16 being 2**-10.
_FLOAT16_TOLERANCE = 8 * 2.0**-10
_AHEAD = "packed"  # under `floats` in a recipe
_ANY_TYPE = {"Cast", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze", "Flatten"}


class OnnxRuntimeBuilder:
    """Checks that a part can run on ONNX Runtime's CPU kernels."""

    conversions: ClassVar[Mapping[str, str]] = {"bfloat16": "float32"}
    rewrites_weights: ClassVar[bool] = True
    computes: ClassVar[bool] = True
    reference: ClassVar[str] = "onnxruntime"
    providers: ClassVar[tuple[str, ...]] = ("cuda", "tensorrt", "cpu")

    def prepare(self, model: ir.Model, where: str, recipe: Mapping[str, str]) -> None:
        """See `vlacut.backend.Builder`."""
        self.foresee(model, where)
        if recipe.get("provider", "cpu") == "cpu":
            packed = recipe.get("floats") == _AHEAD
            write_places(model)
            choose_layouts(model, where, packed)
            if packed:  # in the model: whoever loads it gets the same bits
                model.metadata_props[PACKED_FLOATS] = "1"
        fold_weights(model)
        join_blocks(model, recipe.get("activations", "int8"))
        join_integers(model)

    def foresee(self, model: ir.Model, where: str) -> None:
        """See `vlacut.backend.Foresees`."""
        opset = model.graph.opset_imports.get("", 0)
        if opset > _MAX_OPSET or model.ir_version > _MAX_IR_VERSION:
            raise BackendError(
                f"{where}: opset {opset}, IR {model.ir_version}; ONNX Runtime on the robot reads "
                f"up to {_MAX_OPSET} and {_MAX_IR_VERSION}; export at a lower opset"
            )
        for node in model.graph.all_nodes():
            odd = [
                value for value in node.inputs if value is not None and value.dtype in _NO_KERNELS
            ]
            if odd and node.op_type not in _ANY_TYPE:
                raise BackendError(
                    f"{where}: {node.op_type} {node.name} reads {odd[0].name} as {odd[0].dtype}, "
                    f"for which ONNX Runtime has no CPU kernel; take another "
                    f"--precision or --backend, or a --pipeline with convert-types"
                )

    def findings(self, model: ir.Model, recipe: Mapping[str, str]) -> Iterable[Finding]:
        """`prepare` has said it."""
        return ()

    def recipe(self, device: Device | None = None) -> Mapping[str, str]:
        """Basic optimisation: beyond it, a cut may differ from the whole in the last bit."""
        on_gpu = device is not None and device.cuda is not None
        provider = "cuda,cpu" if on_gpu else "cpu"
        without = " ".join(_LEFT_OUT)
        return {
            "optimisation": "basic",
            "without": without,
            "provider": provider,
            "prepack": OWN,
        }

    def for_many_rows(self, recipe: Mapping[str, str]) -> Mapping[str, str]:
        """See `vlacut.backend.ManyRows`: float32 weights packed ahead, all of a bundle, lest a cut
        move bits. Products of 22 rows take 1.2 x less for it, of 38 rows 1.3 x (Zen 3, one thread).
        """
        return {**recipe, "floats": _AHEAD} if recipe.get("provider") == "cpu" else recipe

    def tolerance(self, model: ir.Model) -> float:
        """The same bits in float32 at basic optimisation; a stated bound in float16."""
        values = (value for node in model.graph.all_nodes() for value in node.outputs)
        half = any(value.dtype == ir.DataType.FLOAT16 for value in values)
        return _FLOAT16_TOLERANCE if half else 0.0
