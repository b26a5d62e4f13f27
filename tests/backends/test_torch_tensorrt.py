"""torch-tensorrt without a GPU: parts as modules of PyTorch, traced and right; its engines built,
kept and served on a fake of TensorRT, whose fake compiler calls inputs and outputs as the real one.
"""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from support.commands import Vlacut
from support.deployments import served
from support.fake_machine import TARGET, fake_machine, looping_bundle
from support.programs import looping_program

from vlacut import registry
from vlacut.bundle.opened import Bundle
from vlacut.compiler.driver import compile_program
from vlacut.errors import BackendError
from vlacut.frontends.load import load_program
from vlacut.hardware import Side
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.engines import load_engines
from vlacut.runtime.verification import verify_bundle
from vlacut_backends.aten.weights import to_array, to_tensor
from vlacut_backends.tensorrt.golden import Golden, compare
from vlacut_backends.torch_tensorrt import engine_builder
from vlacut_backends.torch_tensorrt.doctor import TorchTensorRTDoctor
from vlacut_backends.torch_tensorrt.engine_builder import TorchTensorRTEngineBuilder, compile_part

NAME = "torch-tensorrt"


class Compiler:
    """Of torch-tensorrt what is used: it keeps what it is given, and makes an engine of the fake
    TensorRT's out of the part's file, with names of its own.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.dynamo = SimpleNamespace(convert_exported_program_to_serialized_trt_engine=self.make)
        self.traced: list[torch.export.ExportedProgram] = []
        self.asked: list[int] = []
        self._bundle = bundle
        self.parts = list(bundle.plan.parts)

    def make(
        self,
        exported_program: torch.export.ExportedProgram,
        *,
        arg_inputs: list[torch.Tensor],
        workspace_size: int,
        min_block_size: int,
        require_full_compilation: bool,
        use_explicit_typing: bool,
        immutable_weights: bool,
    ) -> bytes:
        assert min_block_size == 1
        assert require_full_compilation
        assert use_explicit_typing
        assert immutable_weights
        self.traced.append(exported_program)
        self.asked.append(workspace_size)
        part = self.parts[len(self.traced) - 1]
        assert len(arg_inputs) == len(part.inputs)
        model = onnx.load(self._bundle.part_path(part), load_external_data=False)
        names = {key: f"args_{number}" for number, key in enumerate(part.inputs)}
        names |= {key: f"output{number}" for number, key in enumerate(part.outputs)}
        for value in (*model.graph.input, *model.graph.output):
            value.name = names[value.name]
        for node in model.graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        made = {
            "magic": "fake engine",
            "version": "10.3.0",
            "folder": str(self._bundle.root),
            "model": base64.b64encode(model.SerializeToString()).decode(),
        }
        return json.dumps(made).encode()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("torch") / "b.vlacut"
    return compile_program(looping_program(), TARGET, path, backend=NAME)[1]


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_builder, "_DEVICE", "cpu")


def check_parts(bundle: Bundle) -> None:
    """Every part, as it was traced, against its golden tensors."""
    compiler = Compiler(bundle)
    for part in bundle.plan.parts:
        arrays = bundle.part_golden(part)
        assert arrays is not None
        assert compile_part(bundle, part, compiler, 1 << 20)
        spec = bundle.plan.spec
        golden = Golden({}, {key: arrays[key] for key in part.outputs})
        given = [to_tensor(arrays[key], _kind(spec[key].dtype)) for key in part.inputs]
        with torch.no_grad():
            made = compiler.traced[-1].module()(*given)
        found = {key: to_array(one) for key, one in zip(part.outputs, made, strict=True)}
        dtypes = {key: spec[key].dtype for key in part.outputs}
        assert compare(found, golden, dtypes).error <= bundle.manifest.tolerance, part.name
    assert compiler.asked == [1 << 20] * len(bundle.plan.parts)


def _kind(dtype: str) -> torch.dtype:
    found = getattr(torch, dtype)
    assert isinstance(found, torch.dtype)
    return found


def test_parts_are_traced_and_give_their_golden_numbers(bundle: Bundle) -> None:
    check_parts(bundle)


@pytest.mark.slow
@pytest.mark.parametrize("model", registry.names("models"))
def test_parts_of_the_zoo(model: str, tmp_path: Path) -> None:
    target = replace(TARGET, pin=(), precision="float16")
    program = load_program(f"{model}:tiny", {})
    check_parts(compile_program(program, target, tmp_path / "part.vlacut", backend=NAME)[1])


def test_engines_are_kept_by_our_keys_and_served(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engines = tmp_path / "engines"
    with fake_machine(monkeypatch, engines):
        with pytest.raises(BackendError, match=r"run vlacut build .* --backend torch-tensorrt"):
            load_engines(bundle, Side.CLOUD)
        for side in Side:
            compiler = Compiler(bundle)
            compiler.parts = list(bundle.parts(side))
            monkeypatch.setitem(sys.modules, "torch_tensorrt", compiler)
            record = TorchTensorRTEngineBuilder().build(bundle, side, "", lambda *_: None)
            assert all(part.built and part.engine.verified == "golden" for part in record.parts)
            assert all((engines / f"{part.key}.engine").is_file() for part in record.parts)
            again = TorchTensorRTEngineBuilder().build(bundle, side, "", lambda *_: None)
            assert not any(part.built for part in again.parts)
            assert len(compiler.traced) == len(compiler.parts)
        assert all(one.passed for one in verify_bundle(bundle))
        golden = bundle.golden("action")["action"]
        there, here = load_engines(bundle, Side.CLOUD), load_engines(bundle, Side.EDGE)
        with (
            served(bundle.plan, there, bundle.digest) as server,
            EdgeSession(bundle.plan, bundle.digest, here, server.address) as session,
        ):
            for _ in range(3):
                action = session.step(bundle.golden("observation"))["action"]
                np.testing.assert_allclose(action, golden, rtol=1e-3, atol=1e-4)
        # What was altered since is not run, and another release of the compiler builds anew.
        (one, *_) = record.parts
        (engines / f"{one.key}.engine").write_bytes(b"{}")
        with pytest.raises(BackendError, match="no engine"):
            load_engines(bundle, side)


def test_what_is_not_within_the_tolerance_is_not_kept(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engines = tmp_path / "engines"
    with fake_machine(monkeypatch, engines, NOISE="0.5"):
        compiler = Compiler(bundle)
        compiler.parts = list(bundle.parts(Side.EDGE))
        monkeypatch.setitem(sys.modules, "torch_tensorrt", compiler)
        with pytest.raises(BackendError, match="was not kept"):
            TorchTensorRTEngineBuilder().build(bundle, Side.EDGE, "", lambda *_: None)
        assert not list(engines.glob("*.engine"))


def test_without_torch_tensorrt_the_reason_is_one_line(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vlacut: Vlacut
) -> None:
    builder = TorchTensorRTEngineBuilder()
    with pytest.raises(BackendError, match="no NVIDIA driver"):
        builder.build(bundle, Side.CLOUD, "", lambda *_: None)
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
    with fake_machine(monkeypatch, tmp_path):
        with pytest.raises(
            BackendError, match=r"cannot be loaded: .*pip install torch-tensorrt=="
        ) as told:
            builder.build(bundle, Side.CLOUD, "", lambda *_: None)
        assert "\n" not in str(told.value)
        status, _, said = vlacut("build", bundle.root, "--side", "cloud")
        assert status == 2
        assert "pip install torch-tensorrt==" in said
        found = list(TorchTensorRTDoctor().examine(bundle.recipe(Side.CLOUD)))
        assert found[-1].what == NAME
        assert not found[-1].well
        assert found[-1].follows.startswith("pip install torch-tensorrt")


def test_of_a_bundle_for_tensorrt_it_builds_the_same_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = looping_bundle(tmp_path)
    with fake_machine(monkeypatch, tmp_path / "engines"):
        compiler = Compiler(bundle)
        compiler.parts = list(bundle.parts(Side.EDGE))
        monkeypatch.setitem(sys.modules, "torch_tensorrt", compiler)
        record = TorchTensorRTEngineBuilder().build(bundle, Side.EDGE, "", lambda *_: None)
        assert [one.name for one in record.parts] == [one.name for one in compiler.parts]
        with pytest.raises(BackendError, match="run vlacut build"):
            load_engines(bundle, Side.EDGE)  # these are not the engines of this back end
