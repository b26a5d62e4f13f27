"""Roll-outs: bundles that come to a running server, and go."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.deployments import serving_thread
from support.programs import TARGET, looping_program
from support.proxy import wait_until

import vlacut as library
from vlacut.api import opening
from vlacut.api.watching import Watch, bundles_in, verify_whole
from vlacut.bundle.halving import write_half
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import read_bundle
from vlacut.compiler.driver import compile_program
from vlacut.errors import BundleError, PeerRefused
from vlacut.runtime.cloud import deployment
from vlacut.runtime.cloud.server import Server


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three versions of a policy; the weights are the same."""
    folder = tmp_path_factory.mktemp("versions")
    paths = [folder / f"v{trips}" for trips in (1, 2, 3)]
    for trips, path in enumerate(paths, 1):
        compile_program(looping_program(trips=trips), TARGET, path)
    return paths


@pytest.fixture
def folder(versions: list[Path], tmp_path: Path) -> Path:
    """With the first version."""
    put(versions[0], tmp_path / "watched")
    return tmp_path / "watched"


def put(path: Path, folder: Path) -> Bundle:
    folder.mkdir(exist_ok=True)
    return write_half(read_bundle(path), None, folder / path.name)


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(deployment, "_GRACE_S", 0.1)
    monkeypatch.setattr(Watch, "start", lambda self: STARTED.append(self))
    STARTED.clear()
    made = library.serve(folder, watch=True)
    with serving_thread(made):
        yield made


STARTED: list[Watch] = []


def names(server: Server) -> list[str]:
    return [one.name for one in server.bundles]


def check(path: Path, server: Server) -> None:
    """A robot of this version gets its actions."""
    with library.connect(path, "{}:{}".format(*server.address)) as policy:
        action = policy.step(policy.bundle.golden("observation"))["action"]
        np.testing.assert_array_equal(action, policy.bundle.golden("action")["action"])


def test_a_version_comes_beside_the_old_one_which_then_goes(
    server: Server, folder: Path, versions: list[Path]
) -> None:
    watch = STARTED[0]
    first, second, _ = versions
    with pytest.raises(PeerRefused, match="holds another bundle"):
        check(second, server)
    with library.connect(first, "{}:{}".format(*server.address)) as old:
        observed, golden = (old.bundle.golden(each) for each in ("observation", "action"))
        put(second, folder)
        watch.scan()
        assert names(server) == ["v1", "v2"]
        check(second, server)
        shutil.rmtree(folder / "v1")
        watch.scan()
        action = old.step(observed)["action"]  # who is there goes on with the old one
        np.testing.assert_array_equal(action, golden["action"])
        with pytest.raises(PeerRefused):
            check(first, server)
    assert wait_until(lambda: (watch.scan(), names(server) == ["v2"])[1])
    check(second, server)


def test_a_version_at_the_path_of_another_takes_its_place(
    server: Server, folder: Path, versions: list[Path]
) -> None:
    watch = STARTED[0]
    write_half(read_bundle(versions[1]), None, folder / "v1")
    watch.scan()
    check(versions[1], server)
    assert wait_until(lambda: (watch.scan(), len(server.bundles) == 1)[1])


def test_one_that_was_retired_can_come_back(
    server: Server, folder: Path, versions: list[Path]
) -> None:
    watch = STARTED[0]
    put(versions[1], folder)
    watch.scan()
    for _ in range(2):
        shutil.rmtree(folder / "v1")
        watch.scan()
        put(versions[0], folder)
        watch.scan()
        check(versions[0], server)


@pytest.mark.parametrize("kind", ["parts", "weights", "golden", "manifest.json"])
def test_a_version_that_is_damaged_is_not_served(
    server: Server, folder: Path, versions: list[Path], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = put(versions[1], folder)
    names_of = [name for name in (*made.files, "manifest.json") if name.startswith(kind)]
    path = made.root / names_of[0]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    STARTED[0].scan()
    assert names(server) == ["v1"]
    assert "not served: v2: " in caplog.text
    check(versions[0], server)


def test_a_version_that_came_while_the_others_were_read_is_served(
    folder: Path, versions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "start", lambda self: STARTED.append(self))
    read = opening.read_bundle

    def slowly(path: Path) -> Bundle:
        if not (folder / "v2").exists():
            put(versions[1], folder)
        return read(path)

    STARTED.clear()
    monkeypatch.setattr(opening, "read_bundle", slowly)
    made = library.serve(folder, watch=True)
    with serving_thread(made):
        assert names(made) == ["v1"]
        STARTED[0].scan()
        assert names(made) == ["v1", "v2"]
        check(versions[1], made)


@pytest.mark.parametrize(
    ("error", "tried"), [(PermissionError(13, "Permission denied"), 2), (MemoryError("1 TB"), 1)]
)
def test_a_version_that_cannot_be_opened_keeps_no_other_out(
    server: Server,
    folder: Path,
    versions: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    tried: int,
) -> None:
    """What could not be read is tried again: a disk may come back."""
    read = opening.read_bundle

    def broken(path: Path) -> Bundle:
        if path.name == "v2":
            raise error
        return read(path)

    monkeypatch.setattr(opening, "read_bundle", broken)
    for path in versions[1:]:
        put(path, folder)
    for _ in range(2):
        STARTED[0].scan()
    assert names(server) == ["v1", "v3"]
    assert caplog.text.count(f"not served: v2: {type(error).__name__}") == tried
    check(versions[2], server)


def test_a_server_without_a_bundle_refuses_and_waits(
    server: Server, folder: Path, versions: list[Path]
) -> None:
    watch = STARTED[0]
    shutil.rmtree(folder / "v1")
    assert wait_until(lambda: (watch.scan(), not server.bundles)[1])
    with pytest.raises(PeerRefused):
        check(versions[0], server)
    put(versions[2], folder)
    watch.scan()
    check(versions[2], server)


def test_what_is_no_bundle_is_let_lie(folder: Path) -> None:
    (folder / "letter").write_text("dear")
    (folder / "empty").mkdir()
    (folder / ".v2.partial-1").mkdir()
    (folder / "odd").mkdir()
    (folder / "odd" / "manifest.json.sha256").write_bytes(b"\xff" * 1000)
    assert [path.name for path in bundles_in(folder)] == ["v1"]


def test_a_whole_bundle_is_compared_with_its_golden_record(versions: list[Path]) -> None:
    verify_whole(versions[0])
    with pytest.raises(BundleError):
        verify_whole(versions[0].parent)


def test_versions_under_load(server: Server, folder: Path, versions: list[Path]) -> None:
    """Eight robots step while versions come and go: every action is of the robot's own version."""
    watch, stop = STARTED[0], threading.Event()
    steps, wrong = [0] * 8, list[str]()

    def drive(number: int) -> None:
        path = versions[0 if number < 4 else 1]
        with library.connect(path, "{}:{}".format(*server.address)) as policy:
            observed, golden = (policy.bundle.golden(each) for each in ("observation", "action"))
            while not stop.wait(0.01):  # all are in one process: it has to load versions meanwhile
                action = policy.step(observed)["action"]
                steps[number] += 1
                if not np.array_equal(action, golden["action"]):
                    wrong.append(f"{number} at {steps[number]}")

    put(versions[1], folder)
    watch.scan()
    robots = [threading.Thread(target=drive, args=(number,)) for number in range(8)]
    for robot in robots:
        robot.start()
    try:
        assert wait_until(lambda: min(steps) > 3)
        put(versions[2], folder)
        watch.scan()
        shutil.rmtree(folder / "v1")
        watch.scan()
        check(versions[2], server)
        before = list(steps)
        assert wait_until(
            lambda: all(now > then + 3 for now, then in zip(steps, before, strict=True))
        )
    finally:
        stop.set()
        for robot in robots:
            robot.join()
    assert not wrong
    assert wait_until(lambda: (watch.scan(), names(server) == ["v2", "v3"])[1])
