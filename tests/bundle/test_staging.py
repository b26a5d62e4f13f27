"""A bundle appears whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vlacut.bundle.staging import staged_folder
from vlacut.errors import BundleError


def write(target: Path, text: str) -> None:
    with staged_folder(target) as folder:
        (folder / "manifest.json").write_text(text)


def write_half(target: Path, fail: Callable[[], object]) -> None:
    with staged_folder(target) as folder:
        (folder / "manifest.json").write_text("half")
        fail()


def test_a_second_writer_takes_the_place_of_the_first(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write(target, "one")
    write(target, "two")
    assert (target / "manifest.json").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write(target, "one")
    with pytest.raises(ZeroDivisionError):
        write_half(target, lambda: 1 // 0)
    assert (target / "manifest.json").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    for name in ("photos", "photos/cat.jpg"):
        with pytest.raises(BundleError, match="choose another place"):
            write(tmp_path / name, "x")
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"


_WRITER = """
import sys, time
from pathlib import Path
from vlacut.bundle.staging import staged_folder
with staged_folder(Path(sys.argv[1])) as folder:
    (folder / "manifest.json").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_no_half_bundle(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write(target, "one")
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(target)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert (target / "manifest.json").read_text() == "one"
    assert len(list(tmp_path.iterdir())) == 2  # the leftover of the killed one
    write(target, "two")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(BundleError, match="cannot be written: No space left"):
        write_half(target, fail)
    assert not target.exists()
