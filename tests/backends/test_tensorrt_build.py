"""`vlacut build`: what is built, what is kept, and what is refused, on a fake GPU."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_machine import FAKES, TARGET, fake_machine, looping_bundle
from support.programs import looping_program

from vlacut.bundle.engine_records import BuildRecord
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle
from vlacut.bundle.serde import from_json
from vlacut.compiler.driver import compile_program
from vlacut.errors import BackendError, InputError
from vlacut.hardware import Side
from vlacut_backends.cuda.driver import Driver
from vlacut_backends.tensorrt.engine_builder import TensorRTEngineBuilder
from vlacut_backends.tensorrt.execute import TensorRTExecutor

# One part a side: every build is a process.
EDGE, CLOUD = ("embed", "active", "features"), ("join", "refined", "action")
PINS = (*(f"node_{name}=edge" for name in EDGE), *(f"node_{name}=cloud" for name in CLOUD))
ONE_EACH = replace(TARGET, pin=PINS)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return looping_bundle(tmp_path_factory.mktemp("tensorrt"), ONE_EACH)


def built(bundle: Bundle, side: Side = Side.CLOUD, via: str = "") -> BuildRecord:
    return TensorRTEngineBuilder().build(bundle, side, via, lambda *_: None)


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    return tmp_path / "engines"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, engines: Path) -> Iterator[None]:
    with fake_machine(monkeypatch, engines):
        yield


@pytest.mark.usefixtures("gpu")
def test_a_second_build_builds_nothing(bundle: Bundle, engines: Path) -> None:
    first, second = built(bundle), built(bundle)
    assert [part.name for part in first.parts] == [p.name for p in bundle.parts(Side.CLOUD)]
    assert all(part.built for part in first.parts)
    assert not any(part.built for part in second.parts)
    for part in first.parts:
        engine = part.engine
        assert engine.verified == "golden"
        assert engine.max_error <= engine.allowed
        assert engine.workspace_bytes == 20e9  # the recipe's; half of what is free is more
        assert engine.graph
        assert (engines / f"{part.key}.engine").stat().st_size == engine.nbytes
    written = json.loads((engines / f"{first.bundle[:16]}-cloud.json").read_text())
    assert from_json(BuildRecord, written, "record") == second
    assert not list(engines.glob(".*"))


@pytest.mark.usefixtures("gpu")
def test_the_build_record_as_the_command_line_tells_it(bundle: Bundle, engines: Path) -> None:
    command = [sys.executable, "-c", "from vlacut.cli import main; main()", "build"]
    done = subprocess.run(
        [*command, str(bundle.root), "--side", "edge", "--json"], capture_output=True, text=True
    )
    told = json.loads(done.stdout)
    assert set(told) == {
        *("bundle", "program", "side", "device", "software", "folder", "seconds", "parts")
    }
    assert told["software"] == "TensorRT 10.3.0"
    assert [part["name"] for part in told["parts"]] == [p.name for p in bundle.parts(Side.EDGE)]
    assert all(part["built"] and part["verified"] == "golden" for part in told["parts"])
    shown = subprocess.run([*command, str(bundle.root), "--side", "edge"], capture_output=True)
    assert b"0 of 1 engines built" in shown.stdout


def test_one_engine_serves_bundles_and_none_another_machine(
    bundle: Bundle, engines: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same part of another bundle has its engine; another TensorRT needs its own."""
    other = tmp_path / "again.vlacut"
    _, again = compile_program(looping_program(), ONE_EACH, other, backend="tensorrt", golden=False)
    with fake_machine(monkeypatch, engines):
        built(bundle)
        assert not any(part.built for part in built(again).parts)
    with fake_machine(monkeypatch, engines, tensorrt="11.4.0.106"):
        assert all(part.built for part in built(bundle).parts)
        part = bundle.parts(Side.CLOUD)[0]
        TensorRTExecutor().load(bundle.part_path(part), bundle.root, bundle.recipe(Side.CLOUD))
    with fake_machine(monkeypatch, engines, tensorrt="10.16.1.11"):
        part = bundle.parts(Side.CLOUD)[0]
        with pytest.raises(BackendError, match=r"no engine for .* run vlacut build"):
            TensorRTExecutor().load(bundle.part_path(part), bundle.root, bundle.recipe(Side.CLOUD))


def test_a_bundle_without_golden_tensors_says_so(
    monkeypatch: pytest.MonkeyPatch, engines: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bare.vlacut"
    _, bare = compile_program(looping_program(), ONE_EACH, path, backend="tensorrt", golden=False)
    with fake_machine(monkeypatch, engines):
        assert {part.engine.verified for part in built(bare).parts} == {"nothing"}


def test_a_device_with_little_free_memory(
    bundle: Bundle, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_machine(monkeypatch, engines, FREE_BYTES="4000000"):
        assert {part.engine.workspace_bytes for part in built(bundle).parts} == {2000000}


def test_no_driver_is_one_clear_error(bundle: Bundle) -> None:
    """On this machine as it is: TensorRT's Runtime would end the process here."""
    with pytest.raises(BackendError, match="no NVIDIA driver on this machine"):
        built(bundle)
    with pytest.raises(BackendError, match="no NVIDIA driver on this machine"):
        Driver()


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"GPUS": "0"}, "CUDA_ERROR_NO_DEVICE"),
        ({"SM": "87"}, r"compiled for a100 \(sm_80\), and this GPU is sm_87"),
        ({"tensorrt": "10.2.0"}, "compiled for TensorRT 10.3 to .*, and here is 10.2.0"),
        ({"CRASH": "1"}, r"the process that builds crashed \(SIGSEGV\).*about to crash"),
        ({"BUILD_FAILS": "1"}, "could not build it.*Could not find any implementation"),
        ({"NOISE": "0.05"}, "its engine is off by .* is allowed: it was not kept"),
        ({"NOISE": "nan"}, "its engine is off by inf"),
    ],
)
def test_what_cannot_be_built_is_one_error_and_leaves_nothing(
    bundle: Bundle,
    engines: Path,
    monkeypatch: pytest.MonkeyPatch,
    figures: dict[str, str],
    said: str,
) -> None:
    with (
        fake_machine(monkeypatch, engines, **figures),
        pytest.raises(BackendError, match=said) as found,
    ):
        built(bundle)
    assert "\n" not in str(found.value)
    assert not list(engines.glob("*.engine"))
    assert not list(engines.glob(".*"))


@pytest.mark.usefixtures("gpu")
def test_what_the_parser_refuses_is_named(bundle: Bundle, tmp_path: Path) -> None:
    import shutil

    import onnx

    copy = tmp_path / "copy"
    shutil.copytree(bundle.root, copy)
    part = bundle.parts(Side.CLOUD)[0]
    model = onnx.load(bundle.part_path(part), load_external_data=False)
    node = model.graph.node.add(
        op_type="NonZero", name="odd_one", input=[model.graph.input[0].name]
    )
    node.output.append("odd")
    onnx.save(model, copy / "parts" / f"{part.name}.onnx")
    broken = Bundle(copy, bundle.manifest, bundle.digest)
    with pytest.raises(BackendError, match=f"part {part.name}: .*cannot parse it: odd_one: "):
        built(broken)


@pytest.mark.usefixtures("gpu")
def test_an_altered_engine_is_built_again_and_never_run(bundle: Bundle, engines: Path) -> None:
    first = built(bundle).parts[0]
    part = bundle.plan.part[first.name]
    file = engines / f"{first.key}.engine"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(BackendError, match="no engine"):
        TensorRTExecutor().load(bundle.part_path(part), bundle.root, bundle.recipe(Side.CLOUD))
    assert [item.built for item in built(bundle).parts] == [True]
    (engines / f"{first.key}.json").write_text("{}")
    with pytest.raises(BackendError, match="is no record of an engine"):
        built(bundle)


@pytest.mark.usefixtures("gpu")
def test_a_killed_build_leaves_no_engine_and_the_next_one_tidies_up(
    bundle: Bundle, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_BUILD_S", "60")
    command = [sys.executable, "-c", "from vlacut.cli import main; main()", "build"]
    process = subprocess.Popen([*command, str(bundle.root), "--side", "cloud"])
    end = time.monotonic() + 20
    while not list(engines.glob(".building-*")) and time.monotonic() < end:
        time.sleep(0.02)
    (worker,) = engines.glob(".building-*")
    process.kill()
    process.wait()
    _gone(int(worker.name.rpartition("-")[2]))
    assert not list(engines.glob("*.engine"))
    (left,) = engines.glob(".partial-*")  # of the process that asked
    assert left.is_dir()
    worker.unlink()
    monkeypatch.delenv("FAKE_BUILD_S")
    assert all(part.built for part in built(bundle).parts)
    assert not list(engines.glob(".*"))


def _gone(pid: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the worker outlived who asked it")


def test_trtexec_where_the_module_is_missing(
    bundle: Bundle, engines: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    binary = tmp_path / "bin" / "trtexec"
    binary.parent.mkdir()
    binary.write_text(f"#!{sys.executable}\n" + (FAKES / "trtexec.py").read_text())
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(binary.parent), prepend=os.pathsep)
    with fake_machine(monkeypatch, engines, MODULE="missing"):
        with pytest.raises(BackendError, match=r"module cannot be loaded.*--via trtexec"):
            built(bundle)
        record = built(bundle, via="trtexec")
    assert record.software == "TensorRT 10.3.0"
    assert {part.engine.via for part in record.parts} == {"trtexec"}
    assert {part.engine.verified for part in record.parts} == {"golden"}
    commands = [json.loads(line) for line in (engines / "commands").read_text().splitlines()]
    asked = [words for words in commands if any("--saveEngine" in word for word in words)]
    assert asked
    for words in asked:
        assert "--stronglyTyped" in words
        assert "--noTF32" in words
        assert "--memPoolSize=workspace:19073" in words
        assert not any(word.startswith("--builderOptimizationLevel") for word in words)
    with fake_machine(monkeypatch, engines):
        part = bundle.parts(Side.CLOUD)[0]
        TensorRTExecutor().load(bundle.part_path(part), bundle.root, bundle.recipe(Side.CLOUD))


@pytest.mark.usefixtures("gpu")
def test_other_requests_are_refused(bundle: Bundle, split_bundle: Path) -> None:
    with pytest.raises(InputError, match="--via rocket"):
        built(bundle, via="rocket")
    with pytest.raises(BackendError, match="missing or unknown"):
        built(open_bundle(split_bundle))
