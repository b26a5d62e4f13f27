"""The front end for saved programs of torch.export."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from support.torch_models import Nested, run_program, seeded
from torch import nn

from vlacut.errors import ModelError
from vlacut.frontends.torch import program_from_module
from vlacut.frontends.torch_files import load_pt2
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.verifier import verify


def test_a_saved_program_comes_back(tmp_path: Path) -> None:
    module, x, a = seeded(Nested), torch.ones(2, 4), torch.arange(4.0)
    exported = torch.export.export(module, (x, None, True), {"more": {"a": a}}, strict=False)
    torch.export.save(exported, tmp_path / "nested.pt2")
    program = load_pt2(tmp_path / "nested.pt2")
    verify(program)
    direct = program_from_module(module, (x, None, True), {"more": {"a": a}}, name="nested")
    protos = [ir.to_proto(made.phases[0].model) for made in (program, direct)]
    assert protos[0].SerializeToString() == protos[1].SerializeToString()
    assert (program.name, program.inputs, program.outputs) == (
        direct.name,
        direct.inputs,
        direct.outputs,
    )
    np.testing.assert_array_equal(EXAMPLE.get(program)["a"], a.numpy())


def test_a_saved_program_with_dynamic_dimensions_asks_for_them(tmp_path: Path) -> None:
    class Flat(nn.Module):
        def forward(self, x):
            return x.reshape(x.shape[0] * 2, -1).sum(1)

    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(
        Flat(), (torch.ones(4, 6),), dynamic_shapes=({0: batch},), strict=False
    )
    torch.export.save(exported, tmp_path / "flat.pt2")
    with pytest.raises(ModelError, match=r"x \[.*, 6\].*--shape x=1x6"):
        load_pt2(tmp_path / "flat.pt2")
    program = load_pt2(tmp_path / "flat.pt2", shapes={"x": (3, 6)})
    verify(program)
    made = run_program(program, {"x": np.ones((3, 6), np.float32)})
    np.testing.assert_array_equal(made["output_0"], np.full(6, 3, np.float32))


def test_a_pt2_file_that_could_run_code_is_refused(tmp_path: Path) -> None:
    exported = torch.export.export(nn.Tanh(), (torch.ones(2),), strict=False)
    torch.export.save(exported, tmp_path / "good.pt2")
    for old, new, message in (
        (b"torch.ops.aten.tanh.default", b"torch.hub.load", "may run code"),
        (b'"as_int": 2', b'"as_expr": {"expr_str": "exit(3)", "hint": null}', "may run code"),
    ):
        bad = altered(tmp_path / "good.pt2", "models/model.json", old, new)
        with pytest.raises(ModelError, match=message):
            load_pt2(bad)
    with pytest.raises(ModelError, match=r"no saved torch\.export program"):
        load_pt2(truncated(tmp_path / "good.pt2"))


def altered(path: Path, member: str, old: bytes, new: bytes) -> Path:
    made = path.with_name("altered.pt2")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(made, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith(member):
                assert old in data
                data = data.replace(old, new)
            target.writestr(name, data)
    return made


def truncated(path: Path) -> Path:
    made = path.with_name("truncated.pt2")
    made.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return made
