"""`doctor`: what this machine can run, against a bundle; and the holes that `check` knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.commands import Vlacut
from support.fake_machine import TARGET, fake_machine
from support.programs import looping_program

from vlacut.backend import Diagnosis
from vlacut.bundle.opened import Bundle
from vlacut.compiler.driver import compile_program
from vlacut.errors import BackendError
from vlacut.hardware import device_names, load_device
from vlacut_backends.onnxruntime import providers
from vlacut_backends.onnxruntime.doctor import OnnxRuntimeDoctor
from vlacut_backends.tensorrt.build import TensorRTBuilder, derive
from vlacut_backends.tensorrt.doctor import TensorRTDoctor
from vlacut_backends.tensorrt.holes import HOLES, hole, holes_of
from vlacut_backends.tensorrt.key import check_recipe
from vlacut_backends.torch.doctor import TorchDoctor


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("doctor") / "pair.vlacut"
    backend = "edge=onnxruntime,cloud=tensorrt"
    return compile_program(looping_program(), TARGET, path, backend=backend)[1]


def test_each_side_is_held_against_its_recipe(bundle: Bundle, vlacut: Vlacut) -> None:
    """A preference is not missed; what a side cannot do without is, and has a next step."""
    status, out, _ = vlacut("doctor", bundle.root, "--json")
    found = json.loads(out)
    assert status == 1
    assert not found["well"]
    missing = [one for one in found["found"] if not one["well"]]
    assert {one["of"] for one in missing if one["needed"]} == {"cloud"}
    assert all(one["follows"] for one in missing)
    status, out, _ = vlacut("doctor", bundle.root, "--side", "edge")
    assert status == 0
    assert "provider cuda: no NVIDIA driver on this machine" in out


def test_a_machine_with_what_it_takes_is_well(
    bundle: Bundle, vlacut: Vlacut, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with fake_machine(monkeypatch, tmp_path):
        status, out, _ = vlacut("doctor", bundle.root, "--side", "cloud")
        assert status == 0
        assert "sm_80" in out
        assert "TensorRT, this recipe" in out
    with fake_machine(monkeypatch, tmp_path, tensorrt="9.1.0"):
        status, out, _ = vlacut("doctor", bundle.root, "--side", "cloud")
    assert status == 1
    assert "was compiled for TensorRT 10.3 to 11.4, and here is 9.1.0" in out


def _of(found: Any) -> dict[str, Diagnosis]:
    return {one.what: one for one in found}


def test_an_insisted_provider_is_needed() -> None:
    alone = _of(OnnxRuntimeDoctor().examine({"provider": "cuda"}))
    first = _of(OnnxRuntimeDoctor().examine({"provider": "cuda,cpu"}))
    assert alone["ONNX Runtime, provider cuda"].needed
    assert not first["ONNX Runtime, provider cuda"].needed
    said = _of(TorchDoctor().examine({"provider": "cuda"}))["PyTorch, this recipe"]
    assert not said.well
    assert "--provider cpu" in said.follows
    assert _of(TorchDoctor().examine({"provider": "cuda,cpu"}))["PyTorch, this recipe"].well


def test_two_wheels_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "installed", lambda name: "1.0")
    found = _of(OnnxRuntimeDoctor().examine(None))["ONNX Runtime"]
    assert not found.well
    assert found.follows.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")


def test_a_hole_is_a_release_on_a_gpu() -> None:
    assert hole("10.13.3.9", 87) is not None
    assert "10.16 or newer" in str(hole("10.13.3.9", 87))
    assert hole("10.13.3.9", 80) is None
    assert hole("10.16.2", 87) is None
    assert hole("10.13.2", 87) is None
    assert hole("10.3.0", 61) is not None
    assert all(one.source.startswith("github.com/") for one in HOLES)


def test_a_machine_in_a_hole_is_refused_and_found(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = dict(TensorRTBuilder().recipe(load_device("jetson-agx-orin")))
    with pytest.raises(BackendError, match=r"10\.13\.3 has no kernels for sm_87: on Orin"):
        check_recipe(recipe, "10.13.3.9", 87)
    check_recipe(recipe, "10.16.2", 87)
    with fake_machine(monkeypatch, tmp_path, tensorrt="10.13.3", SM="87"):
        found = _of(TensorRTDoctor().examine(recipe))
    assert not found["TensorRT"].well
    assert "isaac-ros-cli/issues/22" in found["TensorRT"].follows


def test_check_knows_the_holes_of_a_device(bundle: Bundle, vlacut: Vlacut) -> None:
    status, out, _ = vlacut("check", bundle.root, "--target", "jetson-agx-orin", "--no-build")
    assert status == 0
    assert out.count("TensorRT 10.13.3 has no kernels for sm_87") == 1
    status, out, _ = vlacut("check", bundle.root, "--target", "a100", "--no-build")
    assert "has no kernels" not in out


def test_only_devices_with_such_a_gpu_have_holes() -> None:
    known = [load_device(name) for name in device_names()]
    holed = {one.name for one in known if one.cuda is not None and holes_of(derive(one))}
    assert holed
    assert all("orin" in name for name in holed)
