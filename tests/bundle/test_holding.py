"""A side runs on files that nobody else can change, whatever happens to the bundle meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import vlacut
from vlacut.bundle.holding import held
from vlacut.bundle.manifest import open_bundle
from vlacut.errors import BundleError
from vlacut.side import Side


@contextmanager
def place(kind: str, folder: Path) -> Iterator[Path]:
    """A folder on a file system of a kind; skips where this machine has none."""
    if kind == "tmpfs":
        if not Path("/dev/shm").is_dir():
            pytest.skip("there is no tmpfs at /dev/shm")
        with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
            yield Path(made)
    elif kind == "overlay":
        names = [folder / name for name in ("lower", "upper", "work", "merged")]
        for name in names:
            name.mkdir()
        lower, upper, work, merged = names
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        command = ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this user cannot mount an overlay here")
        try:
            yield merged
        finally:
            subprocess.run(["umount", "-l", str(merged)], check=True)
    else:
        yield folder


@contextmanager
def serving(bundle: Path, *options: str) -> Iterator[str]:
    """The address of a server of its own process, which must end when it is asked to."""
    words = [sys.executable, "-m", "vlacut", "serve", str(bundle), "--port", "0", "--json"]
    with subprocess.Popen([*words, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield str(json.loads(process.stdout.readline())["address"])
            assert process.poll() is None, f"the server ended with {process.returncode}"
        finally:
            process.terminate()
            assert process.wait(20) == 0


def weights(bundle: Path) -> list[Path]:
    return sorted((bundle / "weights").iterdir())


def copy_over(bundle: Path) -> None:
    """As `cp -r` of the same bundle does: every file is truncated, and written anew."""
    for path in bundle.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            with path.open("wb") as file:
                file.write(data[: len(data) // 2])
                file.flush()
                os.fsync(file.fileno())


def truncate(bundle: Path) -> None:
    for path in weights(bundle):
        os.truncate(path, 0)


def replace(bundle: Path) -> None:
    for path in weights(bundle):
        other = path.with_name("other")
        other.write_bytes(bytes(path.stat().st_size))
        other.replace(path)


def rewrite(bundle: Path) -> None:
    for path in weights(bundle):
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))


def remove(bundle: Path) -> None:
    shutil.rmtree(bundle)


# Those of the same file first: what is replaced is another one.
CHANGES: tuple[Callable[[Path], None], ...] = (rewrite, copy_over, truncate, replace, remove)


@pytest.mark.parametrize("kind", ["usual", "tmpfs", "overlay"])
def test_what_is_served_stays_what_was_verified(
    split_bundle: Path, tmp_path: Path, kind: str
) -> None:
    with place(kind, tmp_path) as folder:
        bundle = folder / "policy.vlacut"
        shutil.copytree(split_bundle, bundle)
        observed = open_bundle(bundle).golden("observation")
        with serving(bundle) as address, vlacut.connect(bundle, address) as policy:
            first = policy.step(observed)
            for change in CHANGES:
                change(bundle)
                for name, array in policy.step(observed).items():
                    np.testing.assert_array_equal(array, first[name], err_msg=change.__name__)
        assert not list(folder.glob(".policy.vlacut.held-*"))


def test_what_is_altered_or_missing_is_named_before_anything_runs(
    split_bundle: Path, tmp_path: Path
) -> None:
    for change, message in ((rewrite, "is altered"), (truncate, "is altered")):
        bundle = tmp_path / change.__name__
        shutil.copytree(split_bundle, bundle)
        change(bundle)
        for open_side in (vlacut.serve, vlacut.connect):
            with pytest.raises(BundleError, match=rf"weights/\w+ {message}"):
                open_side(bundle)
    bundle = tmp_path / "pipe"
    shutil.copytree(split_bundle, bundle)
    weight = weights(bundle)[0]
    weight.unlink()
    os.mkfifo(weight)  # would be waited for
    with pytest.raises(BundleError, match=r"weights/\w+ is (no file|missing)"):
        vlacut.serve(bundle)


def test_in_place_is_refused_where_others_may_write(split_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "policy.vlacut"
    shutil.copytree(split_bundle, bundle)
    vlacut.serve(bundle, in_place=True).close()
    for path in (bundle, bundle / "weights", weights(bundle)[0]):
        mode = path.stat().st_mode
        for more in (0o002, 0o020):
            path.chmod(mode | more)
            with pytest.raises(BundleError, match="others may write it"):
                vlacut.serve(bundle, in_place=True)
        path.chmod(mode)
    vlacut.serve(bundle, in_place=True).close()


def test_a_folder_of_files_held_is_private_and_gone_after(
    split_bundle: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "policy.vlacut"
    shutil.copytree(split_bundle, bundle)
    opened = open_bundle(bundle)
    with held(opened, Side.CLOUD) as folder:
        assert folder.stat().st_mode & 0o077 == 0
        names = {
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        }
        assert all((folder / name).read_bytes() == (bundle / name).read_bytes() for name in names)
        cloud = {opened.part_file(part) for part in opened.parts(Side.CLOUD)}
        assert cloud == {name for name in names if name.startswith("parts/")}
    assert not folder.exists()
    (tmp_path / ".policy.vlacut.held-killed").mkdir()  # of a process that was killed
    with held(opened, Side.EDGE):
        assert not (tmp_path / ".policy.vlacut.held-killed").exists()


def test_a_golden_step_is_what_was_compiled(split_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "policy.vlacut"
    shutil.copytree(split_bundle, bundle)
    opened = open_bundle(bundle)
    (bundle / "golden" / "action.npz").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"golden/action\.npz is altered"):
        opened.golden("action")


def test_emulated_devices_find_the_plan_among_what_is_held(split_bundle: Path) -> None:
    vlacut.serve(split_bundle, emulate=True).close()
