"""Parts as modules of PyTorch, and torch-tensorrt over them as far as it goes without a GPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.fake_machine import TARGET, fake_machine, looping_bundle

from vlacut import registry
from vlacut.bundle.manifest import Bundle
from vlacut.compiler.driver import compile_program
from vlacut.errors import BackendError
from vlacut.frontends.load import load_program
from vlacut.hardware import Side
from vlacut_backends.tensorrt.golden import Golden, compare
from vlacut_backends.torch_tensorrt.engine_builder import TorchTensorRTEngineBuilder, compile_part


class Compiler:
    """Compiles nothing; of `dynamo.compile` of torch-tensorrt 2.13 it has what is used."""

    def __init__(self) -> None:
        self.dynamo = SimpleNamespace(compile=self.compile)
        self.asked: list[int] = []

    def compile(
        self,
        exported_program: torch.export.ExportedProgram,
        *,
        arg_inputs: Any,
        device: Any,
        workspace_size: int,
        min_block_size: int,
        require_full_compilation: bool,
    ) -> Any:
        assert all(isinstance(given, torch.Tensor) for given in arg_inputs)
        self.asked.append(workspace_size)
        return exported_program.module()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return looping_bundle(tmp_path_factory.mktemp("torch"))


def check_parts(bundle: Bundle) -> None:
    """Every part, traced, against its golden tensors."""
    compiler = Compiler()
    for part in bundle.plan.parts:
        arrays = bundle.part_golden(part)
        assert arrays is not None
        inputs = {key: arrays[key] for key in part.inputs}
        golden = Golden(inputs, {key: arrays[key] for key in part.outputs})
        made, milliseconds = compile_part(bundle, part, golden, compiler, 1 << 20, "cpu")()
        dtypes = {key: bundle.plan.spec[key].dtype for key in part.outputs}
        assert compare(made, golden, dtypes).error <= bundle.manifest.tolerance, part.name
        assert milliseconds > 0
    assert compiler.asked == [1 << 20] * len(bundle.plan.parts)


def test_parts_are_traced_and_give_their_golden_numbers(bundle: Bundle) -> None:
    check_parts(bundle)


@pytest.mark.slow
@pytest.mark.parametrize("model", registry.names("models"))
def test_parts_of_the_zoo(model: str, tmp_path: Path) -> None:
    from dataclasses import replace

    target = replace(TARGET, pin=(), precision="float16")
    program = load_program(f"{model}:tiny", {})
    check_parts(compile_program(program, target, tmp_path / "part.vlacut", backend="tensorrt")[1])


def test_without_torch_tensorrt_the_reason_is_told(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    builder = TorchTensorRTEngineBuilder()
    with pytest.raises(BackendError, match="no NVIDIA driver"):
        builder.build(bundle, Side.CLOUD, "", lambda *_: None)
    monkeypatch.setitem(__import__("sys").modules, "torch_tensorrt", None)
    with (
        fake_machine(monkeypatch, tmp_path),
        pytest.raises(BackendError, match=r"cannot be loaded: .*pip install torch-tensorrt=="),
    ):
        builder.build(bundle, Side.CLOUD, "", lambda *_: None)
