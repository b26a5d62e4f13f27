"""Rules of the operators that only move data, or not even that."""

from __future__ import annotations

from vlacut.pricing.roofline import Cost, Kernel
from vlacut_passes.cost.operator import Operator, reads


def view(operator: Operator) -> Kernel:
    """No work: the same bytes under another shape, or a shape that is known beforehand."""
    return _movement(Cost())


def copy(operator: Operator) -> Kernel:
    """No arithmetic: every operand moves once."""
    return operator.kernel("movement")


def gather(operator: Operator) -> Kernel:
    """Reads as many elements of the first input as it writes, and all of the other inputs.

    So an embedding reads only its rows, and a slice only what it keeps.
    """
    table = operator.needed(0)
    read = reads(table, table.rows_bytes(operator.output.size))
    return _movement(operator.cost(skip=(0,)) + read)


def scatter_in_place(operator: Operator) -> Kernel:
    """Reads the update and writes it to its place; what is around it stays."""
    update = operator.needed(1)
    indices = operator.input(2)
    moved = update.nbytes + (indices.nbytes if indices is not None else 0)
    return _movement(Cost(bytes_read=moved, bytes_written=update.nbytes, kernels=1))


def fill(operator: Operator) -> Kernel:
    """Only the output moves; the inputs are a handful of numbers."""
    return _movement(Cost(bytes_written=operator.output.nbytes, kernels=1))


def _movement(cost: Cost) -> Kernel:
    return Kernel("movement", cost)


_BY_RULE = (
    (view, "BitCast Constant Dropout Flatten Identity Reshape Shape Size Squeeze Unsqueeze"),
    (copy, "CenterCropPad Col2Im Concat DepthToSpace Expand MaxUnpool OneHot Pad ReverseSequence"),
    (copy, "Scatter ScatterElements ScatterND SpaceToDepth Split Tile Transpose Trilu"),
    (gather, "Gather GatherElements GatherND Slice Compress"),
    (scatter_in_place, "TensorScatter"),
    (fill, "ConstantOfShape EyeLike Range"),
)
RULES = {kind: rule for rule, kinds in _BY_RULE for kind in kinds.split()}
