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
from vlacut.bundle import holding
from vlacut.bundle.holding import held
from vlacut.bundle.layout import part_file
from vlacut.bundle.reading import open_bundle
from vlacut.errors import BundleError
from vlacut.hardware import Side

CLONING = {"btrfs": "mkfs.btrfs", "xfs": "mkfs.xfs"}


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
    elif kind in CLONING:
        with loop_mounted(kind, folder) as made:
            yield made
    else:
        yield folder


@contextmanager
def loop_mounted(kind: str, folder: Path) -> Iterator[Path]:
    """A file system of its own, in a file."""
    image, mounted = folder / "image", folder / "mounted"
    with image.open("wb") as file:
        file.truncate(320 << 20)  # XFS makes no less
    mounted.mkdir()
    if shutil.which(CLONING[kind]) is None:
        pytest.skip(f"there is no {CLONING[kind]} here")
    subprocess.run([CLONING[kind], "-q", str(image)], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, mounted], capture_output=True).returncode:
        pytest.skip(f"this user or kernel cannot mount {kind} here")
    try:
        mounted.chmod(0o755)
        yield mounted
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)


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


@pytest.mark.parametrize("kind", ["usual", "tmpfs", "overlay", *CLONING])
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


@pytest.mark.parametrize("kind", CLONING)
def test_where_the_file_system_can_a_file_is_held_as_a_clone(kind: str, tmp_path: Path) -> None:
    with place(kind, tmp_path) as folder:
        given, made = folder / "given", folder / "made"
        given.write_bytes(bytes(range(256)) * 4096)
        with given.open("rb") as source, made.open("wb") as target:
            assert holding._clone(source.fileno(), target.fileno())
        with given.open("r+b") as source:
            source.write(bytes(1 << 20))
        assert made.read_bytes() == bytes(range(256)) * 4096


def test_no_name_leads_to_what_a_server_has_mapped(split_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "policy.vlacut"
    shutil.copytree(split_bundle, bundle)
    words = [sys.executable, "-m", "vlacut", "serve", str(bundle), "--port", "0", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        home = Path(f"/proc/{process.pid}")
        reached = [str(path.readlink()) for path in (home / "fd").iterdir() if path.is_symlink()]
        reached += [line.split(maxsplit=5)[-1] for line in (home / "maps").read_text().splitlines()]
        process.terminate()
    of_bundle = [path for path in reached if str(tmp_path) in path]
    assert of_bundle
    assert all(".held-" in path and path.endswith("(deleted)") for path in of_bundle), of_bundle


@pytest.mark.parametrize("above", [False, True])
def test_nothing_is_held_where_others_can_put_another_folder_in_its_place(
    split_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, above: bool
) -> None:
    home, own = tmp_path / "theirs" / "bundles", tmp_path / "own"
    home.mkdir(parents=True)
    own.mkdir(mode=0o700)
    bundle = home / "policy.vlacut"
    shutil.copytree(split_bundle, bundle)
    opened = open_bundle(bundle)
    (home.parent if above else home).chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(own))
    with held(opened, Side.CLOUD) as folder:
        assert folder.parent == own
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    with pytest.raises(BundleError, match=r"others may write in .*set TMPDIR to a folder of your"):
        vlacut.serve(bundle)
    (home.parent if above else home).chmod(0o1777)  # sticky, as /tmp is
    with held(opened, Side.CLOUD) as folder:
        assert folder.parent == home


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
        cloud = {part_file(part) for part in opened.parts(Side.CLOUD)}
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
