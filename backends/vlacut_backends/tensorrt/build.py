"""TensorRT, the compile half: parts become ONNX files whose graph says every element type.

Engines are built where they will run; see `recipe` for what is known of that beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import onnx_ir as ir

from vlacut.backend import Finding
from vlacut.errors import BackendError
from vlacut.hardware import Device
from vlacut_backends.tensorrt.early_casts import cast_early
from vlacut_backends.tensorrt.lowering import lower_opset
from vlacut_backends.tensorrt.recipe import (
    NEWEST,
    OLDEST,
    STRONGLY_TYPED,
    TF32,
    Recipe,
    from_texts,
    parse_version,
)
from vlacut_backends.tensorrt.rules import broken_rules
from vlacut_backends.tensorrt.substitutes import substitute

# Highest ONNX operator set by the release from which on the parser is known to read it: the file
# docs/operators.md of onnx-tensorrt 10.0 and 10.15. In between it may read more.
_OPSETS = {"10.0": 20, "10.15": 24}
# A part's engine rounds otherwise than its golden record, by operators fused and sums in another
# order: eight of the last places of the lowest type in it. float32 may be multiplied as tf32, whose
# last place is that of float16.
_TOLERANCE = {
    ir.DataType.BFLOAT16: 8 * 2.0**-7,
    ir.DataType.FLOAT16: 8 * 2.0**-10,
    ir.DataType.FLOAT: 8 * 2.0**-10,
}
_WORKSPACE_SHARE = 4  # of the memory, the fourth part: weights and the other robots need the rest


class TensorRTBuilder:
    """Strongly typed ONNX for the TensorRT that each machine has."""

    conversions: ClassVar[Mapping[str, str]] = {}
    rewrites_weights: ClassVar[bool] = False
    computes: ClassVar[bool] = True
    reference: ClassVar[str] = "onnxruntime"

    def prepare(self, model: ir.Model, where: str, recipe: Mapping[str, str]) -> None:
        """See `vlacut.backend.Builder`."""
        read = from_texts(recipe)
        lower_opset(model, read.opset, where)
        cast_early(model)
        substitute(model)

    def findings(self, model: ir.Model, recipe: Mapping[str, str]) -> Iterable[Finding]:
        """See `rules`."""
        return broken_rules(model, from_texts(recipe))

    def recipe(self, device: Device | None = None) -> Mapping[str, str]:
        """See `derive`; without a device there is none."""
        return {} if device is None else derive(device).to_texts()

    def tolerance(self, model: ir.Model) -> float:
        """The tolerance of the narrowest type in it."""
        values = (value for node in model.graph.all_nodes() for value in node.outputs)
        return max((_TOLERANCE.get(value.dtype, 0.0) for value in values if value.dtype), default=0)


def derive(device: Device) -> Recipe:
    """The recipe of a device.

    Raises BackendError if it is no GPU with TensorRT, or one of releases this back end is not for.
    """
    if device.cuda is None:
        raise BackendError(
            f"{device.name}: its profile has no [cuda], so TensorRT does not run there; "
            f"choose another --backend or device"
        )
    oldest = max(device.cuda.oldest, OLDEST, key=parse_version)
    newest = min(device.cuda.newest, NEWEST, key=parse_version)
    return Recipe(
        device=device.name,
        sm=device.cuda.sm,
        oldest=oldest,
        newest=newest,
        opset=max(n for v, n in _OPSETS.items() if parse_version(v) <= parse_version(oldest)),
        flags=(STRONGLY_TYPED, TF32) if device.stack.tf32 else (STRONGLY_TYPED,),
        workspace_bytes=device.memory_bytes // _WORKSPACE_SHARE,
    )
