"""Weights that bundles of one process share."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from support.proxy import wait_until

from vlacut.bundle.private import PrivateFolder
from vlacut.bundle.store import WeightStore

ONE, OTHER = b"1" * 32, b"2" * 32


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    return WeightStore(lambda: PrivateFolder(tmp_path, ".shared"))


def inode(path: Path) -> int:
    return os.stat(path).st_ino


def test_a_weight_is_held_once_as_long_as_somebody_uses_it(
    store: WeightStore, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in "abc"]
    for user, path in zip((ONE, OTHER), paths[:2], strict=True):
        store.take(user, "content", path, lambda path=path: path.write_text("w"))  # type: ignore[misc]
    assert inode(paths[0]) == inode(paths[1])
    store.drop(ONE)
    store.take(ONE, "content", paths[2], lambda: pytest.fail("it is here"))
    store.drop(ONE)
    store.drop(OTHER)
    assert not list(tmp_path.glob(".shared*"))


def test_a_weight_that_is_being_held_keeps_nobody_else_waiting(
    store: WeightStore, tmp_path: Path
) -> None:
    """It may be of gigabytes: others give up theirs, and who needs the same one waits for it."""
    began, go = threading.Event(), threading.Event()
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))

    def slowly() -> None:
        began.set()
        assert go.wait(60)
        first.write_text("w")

    store.take(OTHER, "other", other, lambda: other.write_text("o"))
    loading = threading.Thread(target=store.take, args=(ONE, "slow", first, slowly))
    loading.start()
    assert began.wait(60)
    same = threading.Thread(
        target=store.take, args=(OTHER, "slow", second, lambda: second.write_text("twice"))
    )
    same.start()
    store.drop(OTHER)
    assert not second.exists()
    go.set()
    for each in (loading, same):
        each.join()
    assert inode(first) == inode(second)


def test_a_weight_that_cannot_be_held_is_tried_by_the_next(
    store: WeightStore, tmp_path: Path
) -> None:
    def broken() -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        store.take(ONE, "content", tmp_path / "a", broken)
    store.take(OTHER, "content", tmp_path / "b", lambda: (tmp_path / "b").write_text("w"))
    store.drop(ONE)
    assert list(tmp_path.glob(".shared*/content"))
    store.drop(OTHER)
    assert wait_until(lambda: not list(tmp_path.glob(".shared*")))
