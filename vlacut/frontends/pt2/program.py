"""A .pt2 file as a program of torch.export, out of pieces that were read here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from vlacut.errors import ModelError
from vlacut.frontends.pt2.archive import read_archive
from vlacut.frontends.pt2.examples import read_examples
from vlacut.frontends.pt2.fields import TYPES
from vlacut.frontends.pt2.good import NotGood
from vlacut.frontends.pt2.schema import good_program
from vlacut.frontends.pt2.tables import good_payloads
from vlacut.frontends.pt2.tensors import strided


def read_program(path: Path) -> ExportedProgram:
    """The program that torch.export.save wrote.

    Raises ModelError if it is no such file, holds anything but a program of plain tensors and
    operators, or torch cannot make one of what it holds.
    """
    archive = read_archive(path)
    try:
        graph = good_program(archive.program)
        weights = _tensors(archive.weights, archive.tensors, "data/weights/")
        constants = _tensors(archive.constants, archive.tensors, "data/constants/")
    except NotGood as error:
        raise ModelError(f"{path}: holds {error}; save it anew with torch.export.save") from error
    except RecursionError as error:
        raise ModelError(f"{path}: is nested deeper than any program") from error
    return _made(graph, weights, constants, read_examples(archive.examples, str(path)))


def _tensors(table: Any, members: Mapping[str, memoryview], folder: str) -> dict[str, torch.Tensor]:
    made: dict[str, torch.Tensor] = {}
    kept: dict[str, memoryview] = {}
    for name, entry in good_payloads(table)["config"].items():
        meta, member = entry["tensor_meta"], f"{folder}{entry['path_name']}"
        if member not in members:
            raise NotGood(f"a weight {name} in {member}, which is not there")
        data = kept.setdefault(member, _aligned(members[member]))
        sizes, strides = (
            [size["as_int"] for size in meta[which]] for which in ("sizes", "strides")
        )
        dtype = getattr(torch, TYPES[meta["dtype"]])
        try:
            tensor = strided(data, dtype, sizes, strides, meta["storage_offset"]["as_int"])
        except NotGood as error:
            raise NotGood(f"a weight {name} with {error}") from error
        needs = meta["requires_grad"] and (dtype.is_floating_point or dtype.is_complex)
        made[name] = torch.nn.Parameter(tensor, needs) if entry["is_param"] else tensor
    return made


def _aligned(data: memoryview) -> memoryview:
    """Bytes where any element may begin: torch puts them so, and a copy does."""
    address = torch.frombuffer(data, dtype=torch.uint8).data_ptr() if len(data) else 0
    return data if address % 16 == 0 else memoryview(bytearray(data))


def _made(
    graph: Any,
    weights: dict[str, torch.Tensor],
    constants: dict[str, torch.Tensor],
    examples: tuple[tuple[Any, ...], dict[str, Any]] | None,
) -> ExportedProgram:
    from torch._export.serde import schema
    from torch._export.serde.serialize import ExportedProgramDeserializer, _dict_to_dataclass

    serialized = _dict_to_dataclass(schema.ExportedProgram, graph)  # type: ignore[no-untyped-call]
    made: ExportedProgram = ExportedProgramDeserializer().deserialize(
        serialized, weights, constants, examples
    )
    return made
