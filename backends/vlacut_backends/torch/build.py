"""PyTorch, the compile half: parts go as they are, in bfloat16 too, if it has their operators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir

from vlacut.backend import Finding
from vlacut.errors import UnsupportedError
from vlacut.hardware import Device

# Products are summed in another order than elsewhere, and in the type's own width between
# operators: eight of the last places of the lowest 16-bit type, as with TensorRT. In float32 a part
# is within 1e-5 of what ONNX Runtime makes of it; a control step runs tens of parts, trips and
# steps of a sampler one after the other.
_TOLERANCE = {
    ir.DataType.BFLOAT16: 8 * 2.0**-7,
    ir.DataType.FLOAT16: 8 * 2.0**-10,
    ir.DataType.FLOAT: 1e-4,
}


@dataclass(frozen=True)
class _Node:
    """An operator of the compiler's IR, as the operators' table sees it."""

    kind: str
    domain: str
    attributes: Mapping[str, Any]


class TorchBuilder:
    """Checks that a part can run as a module of PyTorch."""

    conversions: ClassVar[Mapping[str, str]] = {}
    rewrites_weights: ClassVar[bool] = False
    computes: ClassVar[bool] = True
    reference: ClassVar[str] = "torch"
    providers: ClassVar[tuple[str, ...]] = ("cuda", "cpu")

    def prepare(self, model: ir.Model, where: str, recipe: Mapping[str, str]) -> None:
        """See `vlacut.backend.Builder`."""
        from vlacut_backends.aten.operators import why_not
        from vlacut_backends.aten.weights import DTYPES

        for node in model.graph.all_nodes():
            attributes = {name: _plain(item) for name, item in node.attributes.items()}
            reason = why_not(_Node(node.op_type, node.domain, attributes))
            if reason and node.op_type != "Constant":
                raise UnsupportedError(
                    f"{where}: {node.op_type} {node.name} {reason}; pin it to the other side with "
                    f"another --backend there, or take another --backend"
                )
        for value in model.graph.initializers.values():
            if value.dtype is not None and int(value.dtype) not in DTYPES:
                raise UnsupportedError(
                    f"{where}: {value.name} is of {value.dtype}, unknown to PyTorch here; take "
                    f"another --backend"
                )

    def findings(self, model: ir.Model, recipe: Mapping[str, str]) -> Iterable[Finding]:
        """`prepare` has said it."""
        return ()

    def recipe(self, device: Device | None = None) -> Mapping[str, str]:
        """CUDA where the device has it, else the CPU."""
        on_gpu = device is not None and device.cuda is not None
        return {"provider": "cuda,cpu" if on_gpu else "cpu"}

    def tolerance(self, model: ir.Model) -> float:
        """That of the lowest type in it."""
        values = (value for node in model.graph.all_nodes() for value in node.outputs)
        return max((_TOLERANCE.get(value.dtype, 0.0) for value in values if value.dtype), default=0)


def _plain(item: ir.Attr) -> Any:
    return item.value
