"""torch's table of ONNX functions is made once, and is nobody's but the export's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vlacut.frontends.exported import emitting
from vlacut.frontends.exported.exporting import export
from vlacut.frontends.exported.torchlib import torchlib_once

registration = pytest.importorskip("torch.onnx._internal.exporter._registration")


def emitted(module: torch.nn.Module) -> str:
    exported = export(module.eval(), (torch.ones(2, 4),), {}, "it")
    model = emitting.emit(exported, 20, "it")
    return "\n".join(map(str, model.graph))


def test_it_is_made_once_and_graphs_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from vlacut.frontends.exported import torchlib

    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU(), torch.nn.LayerNorm(4))
    own = registration.ONNXRegistry.__dict__["from_torchlib"]
    made: list[Any] = []

    def counted(cls: Any, *version: Any, **named: Any) -> Any:
        made.append(version)
        return own.__func__(cls, *version, **named)

    monkeypatch.setattr(torchlib, "_MADE", {})
    with monkeypatch.context() as patched:
        patched.setattr(registration.ONNXRegistry, "from_torchlib", classmethod(counted))
        first, second = emitted(module), emitted(module)
        assert len(made) == 1
        patched.setattr(emitting, "torchlib_once", torch.no_grad)  # as torch does it itself
        assert emitted(module) == first == second
        assert len(made) == 2
    assert registration.ONNXRegistry.__dict__["from_torchlib"] is own


def test_what_one_export_enters_no_other_has() -> None:
    with torchlib_once():
        first = registration.ONNXRegistry.from_torchlib()
        first.functions["aten::add.Tensor"].append(object())
        first.functions["mine::own"] = []
        second = registration.ONNXRegistry.from_torchlib()
    assert "mine::own" not in second.functions
    assert len(second.functions["aten::add.Tensor"]) < len(first.functions["aten::add.Tensor"])


def test_another_torch_makes_it_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(registration, "ONNXRegistry")
    with torchlib_once():
        assert not hasattr(registration, "ONNXRegistry")
