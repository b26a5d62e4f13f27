"""Packs: one file that runs where there are numpy and one executor alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from support.commands import Vlacut

from vlacut.api.pack.wheel import PACKAGES, runtime_wheel
from vlacut.api.pack.writing import write_pack
from vlacut.bundle.reading import open_bundle, read_bundle
from vlacut.errors import BundleError
from vlacut.hardware import Side


@pytest.fixture(scope="module")
def packs(split_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Side, Path]:
    folder, whole = tmp_path_factory.mktemp("packs"), read_bundle(split_bundle)
    found = {side: folder / f"{side}.vlacut" for side in Side}
    for side, path in found.items():
        assert write_pack(whole, side, path) == path.stat().st_size
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where Python finds numpy and onnxruntime, and nothing else but its own library."""
    folder = tmp_path_factory.mktemp("bare")
    for module in (np, onnxruntime):
        home = Path(module.__path__[0])
        for path in (home, home.with_name(f"{home.name}.libs")):
            if path.is_dir():
                (folder / path.name).symlink_to(path)
    return {"PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "PATH": ""}


def python(pack: Path, *words: object) -> list[str]:
    return [sys.executable, "-S", str(pack), *map(str, words)]


def ran(pack: Path, env: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(python(pack, *words), env=env, capture_output=True, text=True)


@pytest.fixture
def address(packs: dict[Side, Path], bare: dict[str, str]) -> Iterator[str]:
    words = python(packs[Side.CLOUD], "--port", 0)
    with subprocess.Popen(words, env=bare, stdout=subprocess.PIPE, text=True) as cloud:
        assert cloud.stdout is not None
        yield cloud.stdout.readline().split()[-1]
        cloud.send_signal(signal.SIGTERM)
    assert cloud.returncode == 0


def test_both_packs_run_in_a_bare_python(
    packs: dict[Side, Path], bare: dict[str, str], address: str
) -> None:
    """The second time from what is unpacked already."""
    for _ in range(2):
        done = ran(packs[Side.EDGE], bare, "--cloud", address, "--steps", 2, "--deadline", "5s")
        assert done.returncode == 0, done.stderr
        assert "largest difference of the action from the uncut model's: 0\n" in done.stdout
        assert done.stdout.count("step ") == 2
    kept = sorted(path.name for path in (Path(bare["XDG_CACHE_HOME"]) / "vlacut/packs").iterdir())
    digest = kept[0].partition("-")[0]
    assert kept == [f"{digest}-cloud", f"{digest}-edge"]


def test_what_is_wrong_is_one_line(packs: dict[Side, Path], bare: dict[str, str]) -> None:
    done = ran(packs[Side.EDGE], bare, "--cloud", "127.0.0.1:9")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("vlacut: ")
    done = ran(packs[Side.EDGE], bare, "--serve", "openpi://127.0.0.1:0")
    assert "vlacut: --serve needs msgpack: pip install 'vlacut[openpi]'" in done.stderr
    done = ran(packs[Side.EDGE], {**bare, "PYTHONPATH": ""}, "--cloud", "127.0.0.1:9")
    assert done.stderr == "vlacut: needs numpy: pip install numpy\n"


def test_a_half_that_was_altered_in_the_cache_is_refused(
    packs: dict[Side, Path], bare: dict[str, str], tmp_path: Path
) -> None:
    env = {**bare, "XDG_CACHE_HOME": str(tmp_path)}
    ran(packs[Side.EDGE], env, "--cloud", "127.0.0.1:9")
    part = next(tmp_path.rglob("parts/*.onnx"))
    part.write_bytes(part.read_bytes()[:-1] + b"\0")
    done = ran(packs[Side.EDGE], env, "--cloud", "127.0.0.1:9")
    assert "is altered" in done.stderr


def test_a_pack_that_is_cut_short_says_so(
    packs: dict[Side, Path], bare: dict[str, str], tmp_path: Path
) -> None:
    with zipfile.ZipFile(packs[Side.EDGE]) as archive, zipfile.ZipFile(tmp_path / "p", "w") as made:
        for name in archive.namelist():
            if not name.endswith("manifest.json"):
                made.writestr(name, archive.read(name))
    done = ran(tmp_path / "p", bare)
    assert done.returncode == 2
    assert "cannot be unpacked" in done.stderr


def test_it_can_be_unpacked_for_pip(
    packs: dict[Side, Path], bare: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = ran(packs[Side.CLOUD], bare, "--unpack", out)
    assert done.returncode == 0, done.stderr
    assert open_bundle(out / "bundle", half=True).half is Side.CLOUD
    assert len(list(out.glob("vlacut-*-py3-none-any.whl"))) == 1
    assert "is not empty" in ran(packs[Side.CLOUD], bare, "--unpack", out).stderr


def test_the_wheel_is_whole_and_the_same_every_time() -> None:
    name, data = runtime_wheel()
    assert runtime_wheel() == (name, data)
    import io

    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        names = wheel.namelist()
        assert {one.partition("/")[0] for one in names} >= set(PACKAGES)
        assert not [one for one in names if "__pycache__" in one]
        about = name.rpartition("-py3")[0]
        record = wheel.read(f"{about}.dist-info/RECORD").decode().splitlines()
        assert {line.partition(",")[0] for line in record} == set(names)
        assert b"[vlacut.executors]" in wheel.read(f"{about}.dist-info/entry_points.txt")


def test_the_command_and_what_it_refuses(
    vlacut: Vlacut, split_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "robot.vlacut"
    status, said, error = vlacut("bundle", "edge", split_bundle, "-o", out, "--pack")
    assert status == 0, error
    assert f"next: python {out}" in said
    status, _, error = vlacut("run", out, "--cloud", "127.0.0.1:9")
    assert (status, "is no bundle" in error) == (2, True)
    status, _, error = vlacut("bundle", "edge", split_bundle, "-o", tmp_path, "--pack")
    assert (status, "a pack is a file" in error) == (2, True)
    assert os.listdir(tmp_path) == ["robot.vlacut"]
    before = out.read_bytes()

    def broken(*_: Any) -> Any:
        raise BundleError("no wheel")

    monkeypatch.setattr("vlacut.api.pack.writing.runtime_wheel", broken)
    status, _, error = vlacut("bundle", "edge", split_bundle, "-o", out, "--pack")
    assert (status, out.read_bytes()) == (2, before)
    assert os.listdir(tmp_path) == ["robot.vlacut"]
