"""TensorRT for real, wherever it and a GPU are: `pytest -m gpu`.

Skipped with the reason elsewhere; with VLACUT_REQUIRE_GPU=1 the reason is a failure, for machines
that are there for this.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.fake_machine import PINS
from support.programs import looping_program

import vlacut
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle
from vlacut.compiler.driver import compile_program
from vlacut.compiler.target import Target
from vlacut.errors import BackendError
from vlacut.hardware import Side, device_names, load_device
from vlacut.runtime.engines import OpenedEngines, host_arrays, load_engines
from vlacut.runtime.local import run_both
from vlacut.runtime.verification import largest_difference
from vlacut_backends.cuda.driver import driver
from vlacut_backends.tensorrt.engine_builder import TensorRTEngineBuilder
from vlacut_backends.tensorrt.handles import tensorrt

pytestmark = pytest.mark.gpu

MODELS = ("openvla:tiny", "cogact:tiny", "pi0:tiny", "smolvla:tiny", "vit-mlp:tiny")


@pytest.fixture(scope="module")
def device() -> str:
    """The name of a profile of this machine's GPU."""
    try:
        gpu, version = driver().gpu, tensorrt().__version__
    except BackendError as error:
        if os.environ.get("VLACUT_REQUIRE_GPU") == "1":
            pytest.fail(f"VLACUT_REQUIRE_GPU is 1, and {error}")
        pytest.skip(str(error))
    for name in device_names():
        cuda = load_device(name).cuda
        if cuda is not None and cuda.sm == gpu.sm:
            return name
    pytest.fail(f"no device profile is of {gpu} with TensorRT {version}")


@pytest.fixture(scope="module", autouse=True)
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("engines")
        patch.setenv("VLACUT_ENGINES", str(folder))
        yield folder


@pytest.fixture(scope="module")
def bundle(device: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("gpu") / "looping.vlacut"
    target = Target(device, device, "10GB/s,0us", pin=PINS)
    made = compile_program(looping_program(256), target, path, backend="tensorrt")[1]
    for side in Side:
        TensorRTEngineBuilder().build(made, side, "", lambda *_: None)
    return made


def test_engines_are_built_once_and_agree_with_the_goldens(bundle: Bundle) -> None:
    for side in Side:
        record = TensorRTEngineBuilder().build(bundle, side, "", lambda *_: None)
        for part in record.parts:
            assert not part.built
            assert part.engine.verified == "golden"
            assert 0 <= part.engine.max_error <= part.engine.allowed
            assert part.engine.device_ms > 0
            assert part.engine.graph


def test_a_split_step_is_the_uncut_models(bundle: Bundle) -> None:
    engines = load_engines(bundle, Side.EDGE) | load_engines(bundle, Side.CLOUD)
    golden = bundle.golden("action")
    for _ in range(3):
        action = run_both(bundle.plan, engines, 0, bundle.golden("observation"))
        largest = max(float(np.abs(array).max()) for array in golden.values())
        assert largest_difference(action, golden) <= bundle.manifest.tolerance * largest


def test_graphs_give_the_numbers_of_plain_runs(bundle: Bundle) -> None:
    """The first run of a context is enqueued, later ones are launched as graphs."""
    part = bundle.plan.part["decode.0"]
    golden = bundle.part_golden(part)
    assert golden is not None
    inputs = {key: golden[key] for key in part.inputs}
    with OpenedEngines(load_engines(bundle, Side.CLOUD)) as opened:
        runs = []
        for _ in range(6):
            made = opened[part.name].run(inputs)
            runs.append(np.array(host_arrays(made.values())[0]))
            del made
    for run in runs[1:]:
        np.testing.assert_array_equal(run, runs[0])


def test_robots_at_once(bundle: Bundle) -> None:
    server = vlacut.serve(bundle.root)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"{server.address[0]}:{server.address[1]}"
    golden, failed = bundle.golden("action")["action"], []

    def drive() -> None:
        with vlacut.connect(bundle.root, address) as policy:
            for _ in range(50):
                made = policy.step(policy.bundle.golden("observation"))["action"]
                if not np.allclose(made, golden, atol=bundle.manifest.tolerance):
                    failed.append(float(np.abs(made - golden).max()))

    try:
        robots = [threading.Thread(target=drive) for _ in range(3)]
        for robot in robots:
            robot.start()
        for robot in robots:
            robot.join(120)
    finally:
        server.shutdown()
        thread.join()
    assert not failed


@pytest.mark.parametrize("precision", ["", "float16", "bfloat16"])
@pytest.mark.parametrize("model", MODELS)
def test_models_of_the_zoo(model: str, precision: str, device: str, tmp_path: Path) -> None:
    """Every part of a tiny model in every precision, built and verified, by the command line."""
    path = tmp_path / "policy.vlacut"
    asked = ["--edge", device, "--cloud", device, "--link", "10GB/s,0us", "--backend", "tensorrt"]
    options = ["--precision", precision] if precision else []
    _vlacut("compile", model, *asked, *options, "-o", str(path))
    bundle = open_bundle(path)
    for side in Side:
        if bundle.parts(side):
            _vlacut("build", str(path), "--side", side.value)
    engines = load_engines(bundle, Side.EDGE) | load_engines(bundle, Side.CLOUD)
    action = run_both(bundle.plan, engines, 0, bundle.golden("observation"))
    golden = bundle.golden("action")
    for name, wanted in golden.items():
        one, other = action[name].ravel().astype(float), wanted.ravel().astype(float)
        norms = np.linalg.norm(one) * np.linalg.norm(other)
        assert norms == 0 or one @ other / norms >= 0.999


def _vlacut(*words: str) -> None:
    command = [sys.executable, "-c", "from vlacut.cli import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_another_gpus_bundle_is_refused(device: str, tmp_path: Path) -> None:
    mine = load_device(device).cuda
    assert mine is not None
    other = next(n for n in device_names() if (c := load_device(n).cuda) and c.sm != mine.sm)
    target = Target(other, other, "10GB/s,0us")
    path = tmp_path / "other.vlacut"
    _, bundle = compile_program(looping_program(), target, path, backend="tensorrt", golden=False)
    with pytest.raises(BackendError, match=f"this GPU is sm_{mine.sm}"):
        TensorRTEngineBuilder().build(bundle, Side.EDGE, "", lambda *_: None)
