"""Which machine calibration measures, by which back end, and what it says is missing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.commands import Vlacut

from vlacut.errors import InputError, UnsupportedError
from vlacut.hardware import Profile, load_device, profile_text
from vlacut.hardware.driver import SeenDriver, SeenGpu
from vlacut.hardware.profile_file import load_profile
from vlacut.measurement.calibration import machine
from vlacut.measurement.calibration.calibrating import sources_of, starting_device
from vlacut.measurement.calibration.machine import choose_back_end, measured_machine
from vlacut.measurement.calibration.samples import sampling_plan

SMALLEST = next(iter(sampling_plan()))
SEEN = SeenDriver(12080, (SeenGpu("NVIDIA A100-SXM4-80GB", 80, 80 << 30, 108),))


def see(patch: pytest.MonkeyPatch, driver: SeenDriver | None) -> None:
    patch.setattr(machine, "seen_driver", lambda: driver)


def test_what_is_here_is_taken_and_what_is_missing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_back_end("", "", 1, SMALLEST) == machine.Choice("onnxruntime")
    assert choose_back_end("torch", "cuda", 1, SMALLEST).backend == "torch"
    # A module that is None cannot be imported: as where the package is not installed.
    for name in [one for one in sys.modules if one.startswith("vlacut_backends.onnxruntime")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = choose_back_end("", "", 1, SMALLEST)
    assert found.backend == "torch"
    (said,) = found.missing
    assert said.startswith("onnxruntime: ")
    assert "pip install 'vlacut[onnxruntime]'" in said


def test_a_gpu_that_nothing_here_runs_on_says_what_each_lacks() -> None:
    with pytest.raises(UnsupportedError) as found:
        choose_back_end("", "cuda", 1, SMALLEST)
    said = str(found.value)
    assert said.startswith("--provider cuda: no back end here can measure it: onnxruntime: ")
    assert "; torch: PyTorch " in said
    assert "--provider cpu" in said
    assert "\n" not in said


@pytest.mark.parametrize("backend", ["tensorrt", "torch-tensorrt"])
def test_a_back_end_that_builds_from_bundles_points_to_profile(backend: str) -> None:
    with pytest.raises(InputError, match="built from bundles alone; measure the GPU with"):
        choose_back_end(backend, "", 0, SMALLEST)


def test_the_figures_of_a_gpu_are_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    see(monkeypatch, SEEN)
    found = measured_machine("cuda", 0)
    assert (found.memory_bytes, found.multiprocessors) == (80 << 30, 108)
    assert found.cuda == load_device("a100").cuda
    assert measured_machine("", 3).multiprocessors == 3
    assert measured_machine("", 3).cuda is None
    sources = sources_of("torch, provider cuda", 320, 15, found)
    device = replace(starting_device("here", "torch", found), source=sources)
    stack = replace(device.stack, source=sources["peak"])
    made = Profile(replace(device, stack=stack), "", {}, {stack.name: stack})
    (tmp_path / "here.toml").write_text(profile_text(made))
    read = load_profile(str(tmp_path / "here.toml")).device
    assert (read.memory_bytes, read.multiprocessors) == (80 << 30, 108)
    assert read.cuda == found.cuda
    assert "NVIDIA A100" in read.source["memory_bytes"]
    assert "releases of TensorRT as of a100" in read.source["cuda"]


def test_a_gpu_without_a_profile_like_it_has_no_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, SeenDriver(12080, (SeenGpu("GTX 1080", 61, 8 << 30, 20),)))
    assert measured_machine("cuda", 0).cuda is None


def test_the_command_refuses_in_one_line(vlacut: Vlacut, tmp_path: Path) -> None:
    status, _, said = vlacut("calibrate", "-o", tmp_path / "here.toml", "--provider", "cuda")
    assert status == 2
    assert "no back end here can measure it: onnxruntime: " in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "here.toml").exists()
