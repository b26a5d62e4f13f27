"""The fake TensorRT against NVIDIA's: every name and signature that we use, in three releases.

NVIDIA's bindings are one extension module per release, about 1 MB, on the package index: 10.3 is
that of JetPack 6, 11.4 the newest, 10.16 the last of 10. Their libraries are not there, but
importing the bindings takes no more than ten symbols, which a stub of C provides; nothing is
called. Three releases cannot be installed side by side, so they are unpacked into folders, once per
checkout.
(`tensorrt-lean` would be 46 MB each, begins at 10.15, and has no builder.)
"""

from __future__ import annotations

import enum
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.fake_machine import FAKES, fake_machine

RELEASES = {
    "10.3.0": "tensorrt-cu12-bindings==10.3.0",
    "10.16.1.11": "tensorrt-cu12-bindings==10.16.1.11",
    "11.4.0.106": "tensorrt-cu13-bindings==11.4.0.106",
}
LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
# Set on objects, not found on the fake's classes.
ATTRIBUTES = {
    "IBuilderConfig": ("builder_optimization_level", "progress_monitor"),
    "INetworkDefinition": ("num_layers",),
}
_DESCRIBE = """
import json, sys
import tensorrt_bindings as trt

def members(cls):
    found = {}
    for name in dir(cls):
        value = getattr(cls, name)
        inner = isinstance(value, type) and name[0].isupper()
        found[name] = {"enum": enumeration(value)} if inner else {"doc": value.__doc__ or ""}
    return found

def enumeration(cls):
    values = getattr(cls, "__members__", {})
    return {name: int(value) for name, value in values.items()}

classes = {name: getattr(trt, name) for name in dir(trt) if isinstance(getattr(trt, name), type)}
print(json.dumps({
    "version": trt.__version__,
    "classes": {name: members(cls) for name, cls in classes.items()},
    "enums": {name: enumeration(cls) for name, cls in classes.items()},
}))
"""


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the libraries that the bindings are linked to."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc) on this machine: the bindings' libraries cannot be stubbed")
    folder = tmp_path_factory.mktemp("stubs")
    library = folder / "libstub.so"
    source = FAKES / "nvinfer_stub.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", library, source], check=True)
    for major in (10, 11):
        for name in LIBRARIES:
            (folder / f"lib{name}.so.{major}").symlink_to(library)
    return folder


@pytest.fixture(scope="session", params=RELEASES)
def real(request: pytest.FixtureRequest, stubs: Path) -> dict[str, Any]:
    """What a release's bindings say of themselves."""
    folder = _bindings(request.param, request.config.cache.mkdir("tensorrt-bindings"))
    places = {"PYTHONPATH": str(folder), "LD_LIBRARY_PATH": str(stubs)}
    done = subprocess.run(
        [sys.executable, "-c", _DESCRIBE],
        env={**os.environ, **places},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    described: dict[str, Any] = json.loads(done.stdout)
    assert described["version"] == request.param
    return described


def _bindings(release: str, cache: Path) -> Path:
    """The unpacked wheel of a release for this Python."""
    folder = cache / f"{release}-{sys.version_info[0]}.{sys.version_info[1]}"
    if not folder.is_dir():
        wheels = cache / f"wheels-{os.getpid()}"
        words = ["download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        chosen = ["--only-binary=:all:", "--dest", str(wheels), RELEASES[release]]
        subprocess.run([sys.executable, "-m", "pip", *words, *chosen], check=True)
        (wheel,) = wheels.glob("*.whl")
        passing = cache / f"passing-{os.getpid()}"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(passing)
        shutil.rmtree(wheels)
        try:
            passing.rename(folder)
        except OSError:  # another process of this test run was first
            shutil.rmtree(passing)
    return folder


@pytest.fixture
def fake(
    real: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[ModuleType]:
    """The fake module as the same release."""
    with fake_machine(monkeypatch, tmp_path, tensorrt=real["version"]):
        import tensorrt

        yield tensorrt


def test_enumerations_are_the_real_ones(real: dict[str, Any], fake: ModuleType) -> None:
    checked = 0
    for name, kind in _classes(fake):
        if issubclass(kind, enum.Enum):
            for member in kind:
                assert real["enums"][name].get(member.name) == member.value, f"{name}.{member.name}"
                checked += 1
    severity = real["classes"]["ILogger"]["Severity"]["enum"]
    assert severity == {item.name: item.value for item in fake.ILogger.Severity}
    assert checked > 15


def test_signatures_are_the_real_ones(real: dict[str, Any], fake: ModuleType) -> None:
    checked = 0
    for name, kind in _classes(fake):
        if issubclass(kind, enum.Enum) or name == "IHostMemory":
            continue
        for method, function in vars(kind).items():
            private = method.startswith("_") and method != "__init__"
            if private or not inspect.isfunction(function) or _ours(name, method):
                continue
            documented = real["classes"][name].get(method)
            assert documented is not None, f"{name}.{method} is not in {real['version']}"
            wanted = list(inspect.signature(function).parameters)
            found = [*_overloads(method, documented["doc"])]
            assert wanted in found, f"{name}.{method}{wanted} is none of {found}"
            checked += 1
    assert checked > 25


def test_attributes_are_the_real_ones(real: dict[str, Any], fake: ModuleType) -> None:
    for name, kind in _classes(fake):
        properties = [key for key, value in vars(kind).items() if isinstance(value, property)]
        for attribute in (*properties, *ATTRIBUTES.get(name, ())):
            assert attribute in real["classes"][name], f"{name}.{attribute}"


def test_what_11_dropped_is_not_touched(real: dict[str, Any], fake: ModuleType) -> None:
    """What made two code paths: the fake lacks what the release lacks."""
    major = int(real["version"].partition(".")[0])
    flags = real["enums"]["BuilderFlag"]
    assert ("FP16" in flags) is (major < 11)
    assert ("device_memory_size" in real["classes"]["ICudaEngine"]) is (major < 11)
    assert "device_memory_size_v2" in real["classes"]["ICudaEngine"]
    assert "STRONGLY_TYPED" in real["enums"]["NetworkDefinitionCreationFlag"]


def _classes(module: ModuleType) -> list[tuple[str, type]]:
    found = inspect.getmembers(module, inspect.isclass)
    return [(name, kind) for name, kind in found if kind.__module__ == module.__name__]


def _ours(name: str, method: str) -> bool:
    """Constructors that TensorRT keeps to itself."""
    made_by_user = ("Builder", "OnnxParser", "Runtime", "ILogger", "IProgressMonitor")
    return method == "__init__" and name not in made_by_user


def _overloads(method: str, doc: str) -> Iterator[list[str]]:
    """Names of the parameters, of each overload that a docstring of pybind11 tells."""
    for line in doc.splitlines():
        match = re.match(rf"(?:\d+\. )?{method}\((.*)\) -> ", line)
        if match and "*args" not in line:
            yield [part.partition(":")[0].strip() for part in match.group(1).split(", ")]
