"""ONNX's operators that move, choose and lay out elements, by ATen's.

Shapes are constants in a part, so whatever a shape or an axis is read from is known when a module
is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from vlacut_backends.aten.weights import DTYPES

Inputs = list[Any]
Attributes = Mapping[str, Any]


def axes_of(given: Inputs, attributes: Attributes) -> list[int]:
    """Axes: an input from operator set 13 on, an attribute before."""
    if len(given) > 1 and given[1] is not None:
        numbers: list[int] = given[1].numbers
        return numbers
    return [int(axis) for axis in attributes.get("axes", ())]


def reshape(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """0 keeps the input's size, without `allowzero`."""
    tensor = given[0].tensor
    shape = given[1].numbers
    if not attributes.get("allowzero", 0):
        shape = [tensor.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    made: torch.Tensor = tensor.reshape(shape)
    return made


def flatten(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Two axes of many."""
    tensor = given[0].tensor
    axis = attributes.get("axis", 1)
    axis += tensor.dim() if axis < 0 else 0
    rows = int(np.prod(tensor.shape[:axis], dtype=np.int64))
    made: torch.Tensor = tensor.reshape(rows, -1) if tensor.numel() else tensor.reshape(rows, 0)
    return made


def slices(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Steps may go backwards."""
    tensor = given[0].tensor
    starts, ends = given[1].numbers, given[2].numbers
    axes = given[3].numbers if len(given) > 3 and given[3] else range(len(starts))
    steps = given[4].numbers if len(given) > 4 and given[4] else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        chosen = range(tensor.shape[axis])[start:end:step]
        if step > 0:
            tensor = torch.ops.aten.slice.Tensor(tensor, axis, start, end, step)
        else:
            tensor = torch.index_select(tensor, axis, torch.tensor(list(chosen)).to(tensor.device))
    made: torch.Tensor = tensor
    return made


def split(given: Inputs, attributes: Attributes) -> tuple[torch.Tensor, ...]:
    """By sizes, or into equal pieces of which the last may be smaller."""
    tensor, axis = given[0].tensor, attributes.get("axis", 0)
    if len(given) > 1 and given[1] is not None:
        return tuple(torch.split(tensor, given[1].numbers, axis))
    size = -(-tensor.shape[axis] // int(attributes["num_outputs"]))
    return tuple(torch.split(tensor, size, axis))


def squeeze(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """All axes of size 1 where none are named."""
    tensor = given[0].tensor
    axes = axes_of(given, attributes) or [i for i, size in enumerate(tensor.shape) if size == 1]
    made: torch.Tensor = torch.squeeze(tensor, [axis % tensor.dim() for axis in axes])
    return made


def unsqueeze(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Axes are those of the result."""
    tensor, axes = given[0].tensor, axes_of(given, attributes)
    rank = tensor.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        tensor = tensor.unsqueeze(axis)
    made: torch.Tensor = tensor
    return made


def gather(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Indices may count from the end."""
    tensor, indices = given[0].tensor, given[1].tensor
    axis = attributes.get("axis", 0) % tensor.dim()
    wrapped = torch.where(indices < 0, indices + tensor.shape[axis], indices)
    taken = torch.index_select(tensor, axis, wrapped.reshape(-1))
    return taken.reshape((*tensor.shape[:axis], *indices.shape, *tensor.shape[axis + 1 :]))


def gather_elements(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Indices may count from the end."""
    tensor, indices = given[0].tensor, given[1].tensor
    axis = attributes.get("axis", 0)
    wrapped = torch.where(indices < 0, indices + tensor.shape[axis], indices)
    return torch.gather(tensor, axis, wrapped.long())


def gather_nd(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Without batch dimensions."""
    tensor, indices = given[0].tensor, given[1].tensor
    made: torch.Tensor = tensor[tuple(indices.unbind(-1))]
    return made


def scatter_nd(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Without a reduction."""
    tensor, indices, updates = (item.tensor for item in given)
    made: torch.Tensor = torch.index_put(tensor, tuple(indices.unbind(-1)), updates)
    return made


def scatter_elements(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Without a reduction."""
    tensor, indices, updates = (item.tensor for item in given)
    axis = attributes.get("axis", 0)
    wrapped = torch.where(indices < 0, indices + tensor.shape[axis], indices)
    made: torch.Tensor = torch.scatter(tensor, axis, wrapped.long(), updates)
    return made


def pad(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """By a constant, which another operator may make."""
    tensor, pads = given[0].tensor, given[1].numbers
    rank = tensor.dim()
    if len(given) > 3 and given[3]:  # of these axes alone
        axes, listed = [axis % rank for axis in given[3].numbers], pads
        pads = [0] * 2 * rank
        for place, axis in enumerate(axes):
            pads[axis], pads[axis + rank] = listed[place], listed[place + len(axes)]
    around = [pads[axis + end] for axis in reversed(range(rank)) for end in (0, rank)]
    if len(given) < 3 or given[2] is None:
        return torch.nn.functional.pad(tensor, around)
    inside = torch.ones(tensor.shape, dtype=torch.bool, device=tensor.device)
    inside = torch.nn.functional.pad(inside, around)
    return torch.where(inside, torch.nn.functional.pad(tensor, around), given[2].tensor)


def transpose(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Axes in reverse where no order is given."""
    tensor = given[0].tensor
    made: torch.Tensor = tensor.permute(*attributes.get("perm", range(tensor.dim())[::-1]))
    return made


def expand(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Either shape may be the larger one in an axis."""
    tensor, wanted = given[0].tensor, given[1].numbers
    shape = np.broadcast_shapes(tuple(tensor.shape), tuple(wanted))
    made: torch.Tensor = tensor.expand(shape)
    return made


def trilu(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """The triangle above a diagonal, or below it."""
    diagonal = int(given[1].number) if len(given) > 1 and given[1] else 0
    cut = torch.triu if attributes.get("upper", 1) else torch.tril
    return cut(given[0].tensor, diagonal)


def arange(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Of the type of its start."""
    like = given[0].tensor
    return torch.arange(*(item.number for item in given), dtype=like.dtype, device=like.device)


def filled(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """ConstantOfShape."""
    stored, device = attributes.get("value"), given[0].tensor.device
    shape = given[0].numbers
    if stored is None:
        return torch.zeros(shape, device=device)
    dtype = DTYPES[stored.dtype]
    one = torch.frombuffer(bytearray(stored.data), dtype=dtype).item()
    return torch.full(shape, one, dtype=dtype, device=device)


def shape_of(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Known, for every shape of a part is."""
    shape = list(given[0].tensor.shape)
    chosen = shape[attributes.get("start", 0) : attributes.get("end", len(shape))]
    return torch.tensor(chosen, dtype=torch.int64, device=given[0].tensor.device)


def one_hot(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """The axis of the classes is the last one unless it is named."""
    indices, depth = given[0].tensor.long(), int(given[1].number)
    off, on = given[2].tensor.unbind(0)
    places = torch.arange(depth, device=indices.device)
    hot = torch.where(indices < 0, indices + depth, indices).unsqueeze(-1) == places
    made = torch.where(hot, on, off)
    axis = attributes.get("axis", -1)
    return made if axis in (-1, made.dim() - 1) else torch.movedim(made, -1, axis)


def top_k(given: Inputs, attributes: Attributes) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and indices, sorted."""
    axis, largest = attributes.get("axis", -1), bool(attributes.get("largest", 1))
    found = torch.topk(given[0].tensor, given[1].numbers[0], axis, largest)
    return found.values, found.indices


def cast(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """`why_not` has seen that PyTorch has the type."""
    made: torch.Tensor = given[0].tensor.to(DTYPES[attributes["to"]])
    return made


def concat(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Along an axis."""
    return torch.cat([item.tensor for item in given], attributes["axis"])


def depth_to_space(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Of images, in either order."""
    tensor, size = given[0].tensor, attributes["blocksize"]
    batch, depth, high, wide = tensor.shape
    if attributes.get("mode", "DCR") == "DCR":
        apart = tensor.reshape(batch, size, size, depth // size**2, high, wide)
        moved = apart.permute(0, 3, 4, 1, 5, 2)
    else:
        apart = tensor.reshape(batch, depth // size**2, size, size, high, wide)
        moved = apart.permute(0, 1, 4, 2, 5, 3)
    made: torch.Tensor = moved.reshape(batch, depth // size**2, high * size, wide * size)
    return made
