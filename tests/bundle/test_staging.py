"""A bundle appears whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vlacut.bundle import staging
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
from vlacut.bundle import staging
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


def test_what_somebody_puts_there_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def photos() -> None:
        target.mkdir(exist_ok=True)
        (target / "cat.jpg").write_bytes(b"cat")

    for before in ("nothing", "an empty folder", "a bundle"):
        if before == "an empty folder":
            target.mkdir()
        elif before == "a bundle":
            write(target, "one")
            (target / "manifest.json").rename(tmp_path / "moved")
        with pytest.raises(BundleError, match="is a folder but no bundle") as caught:
            write_half(target, photos)
        assert "\n" not in str(caught.value)
        assert (target / "cat.jpg").read_bytes() == b"cat"
        assert not list(tmp_path.glob(".*"))
        (target / "cat.jpg").unlink()
        target.rmdir()
    with pytest.raises(BundleError, match="is a file"):
        write_half(target, lambda: target.write_bytes(b"cat"))
    assert target.read_bytes() == b"cat"


def test_what_comes_in_between_two_renames_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    looked = staging._check_replaceable

    def late(path: Path) -> None:
        looked(path)
        if path.is_dir() and not any(path.iterdir()) and list(tmp_path.glob(".out.partial-*")):
            (path / "cat.jpg").write_bytes(b"cat")

    monkeypatch.setattr(staging, "_check_replaceable", late)
    with pytest.raises(BundleError, match="no bundle"):
        write(target, "one")
    assert (target / "cat.jpg").read_bytes() == b"cat"
    assert not list(tmp_path.glob(".*"))


def test_a_writer_whose_process_id_means_nothing_here_is_left_alone(tmp_path: Path) -> None:
    """As that of a compilation in another container: no process has its id here."""
    target = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(target)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        (theirs,) = tmp_path.glob(".out.partial-*")
        other = theirs.with_name(".out.partial-999999999")  # as pids are named
        theirs.rename(other)
        write(target, "two")
        assert (other / "manifest.json").read_text() == "half"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    write(target, "three")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_system_that_cannot_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_EXCHANGE", 1 << 20)  # EINVAL, as such file systems say
    target = tmp_path / "out"
    write(target, "one")
    write(target, "two")
    assert (target / "manifest.json").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(BundleError, match="cannot be written: No space left"):
        write_half(target, fail)
    assert not target.exists()
