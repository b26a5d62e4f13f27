"""The runtime half in a bare Python 3.10 with numpy and onnxruntime alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.pictures import camera_program

from vlacut.api.pack.writing import write_pack
from vlacut.bundle.reading import read_bundle
from vlacut.compiler.driver import compile_program
from vlacut.compiler.target import Target
from vlacut.hardware import Side
from vlacut.security.keys import make_keys

PINS = ("numpy==2.2.6", "onnxruntime==1.23.2")  # the last of each for Python 3.10
PICTURE_PINS = ("simplejpeg==1.9.0", "backports.zstd==1.8.0")
ROOT = Path(__file__).parents[2]

_STEP = """
import sys, threading
import numpy as np
import vlacut

path, keys = sys.argv[1:]
server = vlacut.serve(path, tls=keys + "/cloud")
thread = threading.Thread(target=server.serve_forever)
thread.start()
try:
    address = "%s:%d" % server.address
    with vlacut.connect(path, address, tls=keys + "/robot", deadline=20.0) as policy:
        action = policy.step(policy.bundle.golden("observation"))
        golden = policy.bundle.golden("action")
        assert policy.last.frames > 0
    for name, array in golden.items():
        np.testing.assert_allclose(action[name], array, rtol=1e-5, atol=1e-6)
finally:
    server.shutdown()
    thread.join()
heavy = {"torch", "onnx", "onnx_ir", "click", "rich", "scipy", "cryptography", "simplejpeg"}
heavy &= set(sys.modules)
assert not heavy, heavy
print(sys.version_info[:2], "ok")
"""

_PICTURE_STEP = """
import sys, threading
import numpy as np
import vlacut

try:
    server = vlacut.serve(sys.argv[1])
except vlacut.errors.InputError as error:
    print(error)
    sys.exit()
thread = threading.Thread(target=server.serve_forever)
thread.start()
try:
    with vlacut.connect(sys.argv[1], "%s:%d" % server.address) as policy:
        action = policy.step(policy.bundle.golden("observation"))
        (variant, *_), golden = policy.bundle.plan.variants, policy.bundle.golden("action")
        allowed = variant.action_error.allowed * max(np.abs(one).max() for one in golden.values())
        assert policy.last.bytes_up < 20000
    for name, array in golden.items():
        assert 0 < np.abs(action[name] - array).max() <= allowed
finally:
    server.shutdown()
    thread.join()
print("ok")
"""


def python310() -> str | None:
    """A Python 3.10 interpreter, on PATH or among those of pyenv."""
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"))
    for candidate in (shutil.which("python3.10"), *map(str, pyenv)):
        if candidate and not subprocess.run([candidate, "-c", ""], capture_output=True).returncode:
            return candidate
    return None


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An environment with the wheel and its pins, and nothing else; its interpreter."""
    base = python310()
    if base is None:
        pytest.skip("no Python 3.10 on this machine: the robot's environment cannot be made")
    folder = tmp_path_factory.mktemp("robot")
    built = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(built, cwd=ROOT, check=True, capture_output=True)
    subprocess.run([base, "-m", "venv", str(folder / "venv")], check=True)
    python = str(folder / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *PINS], check=True)
    subprocess.run([*pip, "--no-deps", *map(str, folder.glob("*.whl"))], check=True)
    return python


@pytest.mark.slow
def test_a_bundle_runs_on_a_bare_robot(robot: str, split_bundle: Path, tmp_path: Path) -> None:
    """In TLS, whose keys were made elsewhere."""
    make_keys(tmp_path, ("robot",), 1)
    words = [robot, "-W", "error", "-c", _STEP, str(split_bundle), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == "(3, 10) ok\n", done.stderr


@pytest.mark.slow
def test_packs_run_on_a_bare_robot(robot: str, split_bundle: Path, tmp_path: Path) -> None:
    """Both of them, on the robot's Python."""
    whole = read_bundle(split_bundle)
    packs = {side: tmp_path / side.value for side in Side}
    for side, path in packs.items():
        write_pack(whole, side, path)
    words = [robot, "-W", "error", str(packs[Side.CLOUD]), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as cloud:
        assert cloud.stdout is not None
        address = cloud.stdout.readline().split()[-1]
        words = [robot, "-W", "error", str(packs[Side.EDGE]), "--cloud", address]
        done = subprocess.run(words, capture_output=True, text=True)
        cloud.terminate()
    assert done.returncode == 0, done.stderr
    assert "largest difference of the action" in done.stdout


def test_coded_pictures_need_the_extra_and_say_so(robot: str, tmp_path: Path) -> None:
    """What to install is said at load; with it the step runs. Last: the environment changes."""
    asked = Target("jetson-agx-orin", "a100", "1MB/s,5ms", pin=("*=cloud",), codecs="jpeg90,zstd")
    compile_program(camera_program(tmp_path, 96), asked, tmp_path / "b")
    words = [robot, "-W", "error", "-c", _PICTURE_STEP, str(tmp_path / "b")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == (
        "pictures as jpeg90 need simplejpeg, which is not here: pip install 'vlacut[pictures]'\n"
    ), done.stderr
    pip = [robot, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, *PICTURE_PINS], check=True)
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == "ok\n", done.stderr
