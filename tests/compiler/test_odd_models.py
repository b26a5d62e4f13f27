"""Models that are no policy: constant, empty, oddly named, drawn at random, or far too long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.commands import Vlacut
from support.forging import forge_file
from support.onnx_text import write

from vlacut.bundle.reading import open_bundle
from vlacut.cli.show.report import verdict
from vlacut.compiler.driver import compile_program
from vlacut.compiler.target import Target
from vlacut.errors import BundleError, ModelError
from vlacut.frontends.folder import folder_program
from vlacut.frontends.onnx import onnx_program
from vlacut.runtime.verification import verify_bundle
from vlacut.tensor.npz import npz_bytes, read_npz
from vlacut_backends.tensorrt.golden import read_golden

TARGET = Target("jetson-agx-orin", "a100", "10MB/s,20ms")


@pytest.mark.parametrize(
    "body",
    [
        "g () => (float[4] y) <float[4] p = {1,2,3,4}> { y = Add(p, p) }",
        "g (float[4] x) => (float[4] y) <float[4] p = {1,2,3,4}> { y = Add(p, p) }",
        "g (float[4] x) => (float[4] x) { }",
        "g (float[0,4] x) => (float[0,4] y) { y = Relu(x) }",
        "g (float x, bool flag, int64[2] n) => (float y, int64[2] m, bool flag) "
        "{ y = Where(flag, x, x) m = Add(n, n) }",
    ],
)
def test_what_computes_nothing_or_little_is_compiled_and_verified(
    tmp_path: Path, body: str
) -> None:
    """What is constant takes no time, and no ratio of it is infinite."""
    program = onnx_program(write(tmp_path / "odd.onnx", body))
    planned, bundle = compile_program(program, TARGET, tmp_path / "odd.vlacut")
    assert all(np.isfinite(one.ratio) for one in planned.plan.standings)
    assert "No split pays here" in verdict(planned.plan)
    assert all(result.passed for result in verify_bundle(open_bundle(bundle.root)))


def test_tensors_may_have_any_name(tmp_path: Path) -> None:
    """`numpy.savez` has parameters of these names."""
    body = (
        "g (float[4] file, float[4] allow_pickle) => (float[4] args, float[4] kwds) "
        "{ args = Add(file, allow_pickle) kwds = Sub(file, allow_pickle) }"
    )
    program = onnx_program(write(tmp_path / "m.onnx", body))
    compile_program(program, TARGET, tmp_path / "m.vlacut")
    bundle = open_bundle(tmp_path / "m.vlacut")
    observed, action = bundle.golden("observation"), bundle.golden("action")
    np.testing.assert_array_equal(action["kwds"], observed["file"] - observed["allow_pickle"])


def test_an_npz_keeps_names_types_and_shapes(tmp_path: Path) -> None:
    arrays = {
        "file": np.arange(6, dtype=np.float16).reshape(2, 3),
        "main/bïld ../x.npy": np.array(True),
        "": np.zeros((0, 4), np.int64),
    }
    (tmp_path / "a.npz").write_bytes(npz_bytes(arrays))
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    assert npz_bytes(arrays) == npz_bytes(found)


def test_an_action_that_is_not_finite_is_compared_all_the_same(tmp_path: Path) -> None:
    """The example holds negative numbers, whose logarithm is NaN."""
    body = "g (float[8] x) => (float[8] y) { y = Log(x) }"
    compile_program(onnx_program(write(tmp_path / "m.onnx", body)), TARGET, tmp_path / "m.vlacut")
    bundle = open_bundle(tmp_path / "m.vlacut")
    assert np.isnan(bundle.golden("action")["y"]).any()
    assert all(result.passed for result in verify_bundle(bundle))
    altered = {"y": np.nan_to_num(bundle.golden("action")["y"])}
    forge_file(bundle.root, "golden/action.npz", npz_bytes(altered))
    assert not verify_bundle(open_bundle(bundle.root))[1].passed


def folder(path: Path, text: str) -> Path:
    """A program whose phase reads x and makes y."""
    path.mkdir()
    write(path / "one.onnx", "g (float[4] x) => (float[4] y) { y = Relu(x) }")
    (path / "program.toml").write_text(f'{text}\n[[phase]]\nname = "a"\nfile = "one.onnx"\n')
    return path


def test_trips_have_a_limit(tmp_path: Path) -> None:
    path = folder(tmp_path / "long", 'outputs = ["y"]')
    text = (path / "program.toml").read_text()
    (path / "program.toml").write_text(f"{text}trips = {10**12}\n")
    with pytest.raises(ModelError, match=r"trips is 1000000000000, must be .* at most 100000"):
        folder_program(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('outputs = ["y", "y"]', "two outputs share a name: y, y"),
        ('outputs = ["y"]\ninputs = ["x", "x"]', "two inputs share a name: x, x"),
        ('outputs = ["x"]', "no phase has the output x; known: y"),
    ],
)
def test_names_of_a_program_are_checked(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        folder_program(folder(tmp_path / "p", text))


def test_noise_must_be_an_input(tmp_path: Path) -> None:
    body = "g (float[4] x) => (float[4] y) { r = RandomNormalLike(x) y = Add(x, r) }"
    with pytest.raises(ModelError, match=r"RandomNormalLike draws random numbers; noise must be"):
        onnx_program(write(tmp_path / "m.onnx", body))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("length", "100", "is 16384 bytes by its shape, 100 by its reference into m.bin"),
        ("offset", "-5", "is no ONNX model"),
        ("offset", "abc", "is no ONNX model"),
        ("length", "99999999", "is 16384 bytes by its shape, 99999999 by"),
        ("offset", "99999999999999999999", "m.bin of weight w is cut short"),
    ],
)
def test_references_into_weights_are_checked(
    tmp_path: Path, key: str, value: str, message: str
) -> None:
    weights = {"w": np.ones((64, 64), np.float32)}
    path = tmp_path / "m.onnx"
    write(path, "g (float[2,64] x) => (float[2,64] y) { y = MatMul(x, w) }", weights)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="m.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    entries = {item.key: item for item in model.graph.initializer[0].external_data}
    entries[key].value = value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=message):
        onnx_program(path)


def test_a_users_script_that_exits_is_an_error(tmp_path: Path, vlacut: Vlacut) -> None:
    script = tmp_path / "mine.py"
    script.write_text("import sys\ndef make():\n    sys.exit(3)\n")
    status, _, error = vlacut("opt", f"{script}:make")
    assert status == 2
    assert "mine.py:3: SystemExit: 3" in error


def test_golden_tensors_of_a_part_that_are_damaged_are_named(tmp_path: Path) -> None:
    file = tmp_path / "part.npz"
    data = bytearray(npz_bytes({"x": np.ones(64, np.float32), "y": np.ones(64, np.float32)}))
    data[200] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match=r"part\.npz: cannot be read: Bad CRC-32"):
        read_golden(str(file), ["x"], ["y"])
