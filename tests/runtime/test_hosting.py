"""Several bundles on one server: who is served which, and what is loaded when."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.commands import Vlacut
from support.deployments import DIGEST, crossing_deployment, serving_thread
from support.programs import TARGET, looping_program, observation
from support.proxy import wait_until

import vlacut as library
from vlacut.compiler.driver import compile_program
from vlacut.errors import BackendError, InputError, PeerRefused, PeerUnable
from vlacut.plans.memory import Memory
from vlacut.plans.plan import Plan
from vlacut.runtime.cloud import deployment
from vlacut.runtime.cloud.deployment import Deployment, Offer, ready
from vlacut.runtime.cloud.hosting import Hosting
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.tally import Tally

PROGRAM, PLAN, ENGINES = crossing_deployment()
DIGESTS = {name: bytes([number]) * 32 for number, name in enumerate("abc", 1)}
SIZED = replace(PLAN, memory=Memory(0, 100, 10))


class Loads:
    """Offers of one plan under several digests, and what was loaded and unloaded, in order."""

    def __init__(self, plan: Plan = SIZED) -> None:
        self.plan, self.log = plan, list[str]()
        self.before: Callable[[], None] = lambda: None

    def offer(self, name: str, weights: Mapping[str, int] | None = None) -> Offer:
        def load() -> Mapping[str, Any]:
            self.before()
            self.log.append(f"load {name}")
            return ENGINES

        def unload() -> None:
            self.log.append(f"unload {name}")

        return Offer(self.plan, DIGESTS[name], load, unload, weights=weights or {}, name=name)


@contextmanager
def serving(*offers: Offer, **options: Any) -> Iterator[Server]:
    server = Server(offers, timeout=2.0, **options)
    with serving_thread(server):
        yield server


def robot(server: Server, name: str, **options: Any) -> EdgeSession:
    return EdgeSession(SIZED, DIGESTS[name], ENGINES, server.address, **options)


def free(server: Server) -> bool:
    return server.robots == 0


def test_robots_are_served_by_the_digest_that_they_greet_with() -> None:
    loads = Loads()
    offers = [loads.offer(name) for name in "ab"]
    with serving(*offers) as server:
        assert not loads.log
        with robot(server, "a") as one, robot(server, "b") as other:
            for session in (one, other):
                session.step(observation(PROGRAM))
            assert [bundle.sessions for bundle in server.bundles] == [1, 1]
        with pytest.raises(PeerRefused, match="holds another bundle"):
            robot(server, "c")
        assert wait_until(lambda: server.counts.steps == 2)
        assert [bundle.counts.steps for bundle in server.bundles] == [1, 1]
        assert server.counts.events["connected"] == 2
    assert loads.log == ["load a", "load b", "unload a", "unload b"]


def test_one_bundle_alone_is_loaded_before_it_listens() -> None:
    loads = Loads()
    with serving(loads.offer("a")):
        assert loads.log == ["load a"]


def test_the_idle_bundle_that_was_used_longest_ago_makes_room() -> None:
    """220 bytes hold two bundles of 100 and a robot of 10 each."""
    loads = Loads()
    with serving(*(loads.offer(name) for name in "abc"), memory=220) as server:
        for name in "aba":
            with robot(server, name) as session:
                session.step(observation(PROGRAM))
            assert wait_until(lambda: free(server))
        assert loads.log == ["load a", "load b"]
        with robot(server, "c"):
            assert loads.log[2:] == ["unload b", "load c"]
        assert wait_until(lambda: free(server))
        with robot(server, "b"):
            assert loads.log[4:] == ["unload a", "load b"]


def test_a_bundle_with_robots_is_never_unloaded(caplog: pytest.LogCaptureFixture) -> None:
    loads = Loads()
    with serving(*(loads.offer(name) for name in "ab"), memory=130) as server:
        with robot(server, "a") as session:
            with pytest.raises(PeerUnable, match="the cloud is full"):
                robot(server, "b")
            session.step(observation(PROGRAM))
            assert wait_until(lambda: "its memory holds 1 robots beside" in caplog.text)
        assert wait_until(lambda: free(server))
        with robot(server, "b") as session:
            session.step(observation(PROGRAM))
    assert loads.log == ["load a", "unload a", "load b", "unload b"]


def test_weights_of_the_same_content_count_once() -> None:
    loads, hosting = Loads(), Hosting(170)
    first, second = (
        hosting.add(loads.offer(name, {"shared": 90, name: 30})) for name in ("a", "b")
    )
    first.load()
    assert hosting.make_room(second, [first])  # 90 + 30 + 30 + 10 + 10 = 170
    assert loads.log == ["load a"]
    assert hosting.make_room(second, [first, first])  # 10 more: the first, which has no robots
    assert loads.log == ["load a", "unload a"]


def test_what_can_never_fit_or_is_there_twice_is_refused_at_once() -> None:
    loads = Loads()
    with pytest.raises(InputError, match="compile with a lower --cloud-budget"):
        Server([loads.offer("a"), loads.offer("b")], memory=109)
    with pytest.raises(InputError, match=r"a \(.*\) is served already"):
        Server([loads.offer("a"), loads.offer("a")])


def test_a_robot_waits_for_a_bundle_that_loads_slowly(caplog: pytest.LogCaptureFixture) -> None:
    """Longer than a handshake may take: it is told to come again, and loads nothing twice."""
    caplog.set_level("INFO")
    loads, go = Loads(), threading.Event()

    def wait() -> None:
        assert go.wait(60)

    loads.before = wait
    done = threading.Event()

    def drive() -> None:
        with robot(server, "a", timeout=0.5) as session:
            session.step(observation(PROGRAM))
            done.set()

    with serving(loads.offer("a"), loads.offer("b")) as server:
        waiting = threading.Thread(target=drive)
        waiting.start()
        assert wait_until(lambda: caplog.text.count("a is being loaded") > 2)
        assert "waiting: the cloud is loading this bundle" in caplog.text
        with pytest.raises(PeerRefused):
            robot(server, "c")  # nobody else is held up
        assert not done.is_set()
        go.set()
        waiting.join()
        assert done.is_set()
    assert loads.log.count("load a") == 1


def test_who_comes_again_hears_that_loading_failed_before_it_is_tried_again() -> None:
    """Else a robot that is told to come again would wait for good."""
    loads, go, tries = Loads(), threading.Event(), list[str]()

    def broken() -> None:
        tries.append("a")
        assert go.wait(60)
        raise BackendError("no such GPU")

    loads.before = broken
    one = Deployment(loads.offer("a"))
    one.begin_loading()
    assert not one.wait(0.0)
    go.set()
    assert wait_until(lambda: not one.active)
    one.begin_loading()
    assert one.wait(0.0)
    assert one.why_not == "a cannot be loaded: no such GPU"
    assert len(tries) == 1
    one.begin_loading()
    assert one.wait(60.0)
    assert len(tries) == 2


def test_a_server_that_ends_while_a_bundle_loads_gives_it_up() -> None:
    loads, began, go = Loads(), threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        assert go.wait(60)

    loads.before = wait
    server = Server([loads.offer("a"), loads.offer("b")], timeout=0.05)
    with serving_thread(server):
        server.bundles[0].begin_loading()
        assert began.wait(60)
    go.set()
    assert wait_until(lambda: not server.bundles[0].active)
    assert loads.log == ["load a", "unload a"]
    server.bundles[0].begin_loading()
    assert server.bundles[0].why_not == "the server is stopping"


@pytest.mark.parametrize(
    ("error", "said"),
    [(BackendError("no such GPU"), "no such GPU"), (MemoryError("1 TB"), "MemoryError: 1 TB")],
)
def test_a_bundle_that_cannot_be_loaded_harms_no_other(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    loads = Loads()

    def broken() -> None:
        raise error

    with serving(loads.offer("a"), loads.offer("b")) as server:
        with robot(server, "b") as session:
            loads.before = broken
            with pytest.raises(PeerUnable):
                robot(server, "a")
            assert wait_until(lambda: f"a cannot be loaded: {said}" in caplog.text)
            session.step(observation(PROGRAM))
            assert loads.log == ["load b", "unload a"]  # what it shares is given up
        loads.before = lambda: None
        with robot(server, "a"):  # it is tried again
            pass


def test_admission_counts_the_time_of_all_bundles() -> None:
    loads = Loads()
    with serving(loads.offer("a"), loads.offer("b")) as server:
        one, other = server.bundles
        for bundle in (one, other):
            bundle.load()
            bundle.note_step(Tally(), True, 0.06)
        with robot(server, "a", deadline=0.1) as session:
            assert server.load == pytest.approx(0.6)
            with pytest.raises(PeerUnable):
                robot(server, "b", deadline=0.1)
            with robot(server, "b", deadline=0.2):
                assert server.load == pytest.approx(0.9)
            assert session.deadline == 0.1


def test_nothing_is_unloaded_for_a_robot_that_there_is_no_time_for() -> None:
    """220 bytes hold two bundles of 100 and a robot of 10 each."""
    loads = Loads()
    with serving(*(loads.offer(name) for name in "abc"), memory=220) as server:
        for bundle in server.bundles:
            bundle.note_step(Tally(), True, 0.06)
        with robot(server, "a"):
            pass
        assert wait_until(lambda: free(server))
        with robot(server, "b", deadline=0.1):
            with pytest.raises(PeerUnable):
                robot(server, "c", deadline=0.1)
            assert loads.log == ["load a", "load b"]
            with robot(server, "c", deadline=0.2):
                assert loads.log == ["load a", "load b", "unload a", "load c"]


def test_what_a_bundle_did_counts_when_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters never fall: Prometheus would take that for a server that began anew."""
    monkeypatch.setattr(deployment, "_GRACE_S", 0.0)
    loads = Loads()
    with serving(loads.offer("a"), loads.offer("b")) as server:
        with robot(server, "a") as session:
            session.step(observation(PROGRAM))
        assert wait_until(lambda: free(server) and server.counts.events["left"] == 1)
        before = server.counts
        server.retire(DIGESTS["a"])
        assert wait_until(lambda: (server.sweep(), len(server.bundles) == 1)[1])
        assert server.counts == before
        assert before.steps == 1


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two bundles of the same weights: the second refines its action more often."""
    folder = tmp_path_factory.mktemp("two")
    for name, trips in (("a", 3), ("b", 5)):
        compile_program(looping_program(trips=trips), TARGET, folder / name)
    return folder / "a", folder / "b"


def mapped() -> dict[str, set[str]]:
    """Inodes of the weights that this process maps, by content."""
    found: dict[str, set[str]] = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and "/weights/" in fields[5]:
            content = fields[5].partition("/weights/")[2].split()[0]
            found.setdefault(content, set()).add(fields[4])
    return found


def test_weights_of_two_bundles_are_in_memory_once(two: tuple[Path, Path]) -> None:
    before = mapped()  # by sessions of other tests
    server = library.serve(two)
    with serving_thread(server):
        for path in two:
            with library.connect(path, "{}:{}".format(*server.address)) as policy:
                action = policy.step(policy.bundle.golden("observation"))
                np.testing.assert_array_equal(
                    action["action"], policy.bundle.golden("action")["action"]
                )
        assert all(bundle.engines is not None for bundle in server.bundles)
        shared = server.bundles[0].weights.keys() & server.bundles[1].weights.keys()
        inodes = {name: ids - before.get(name, set()) for name, ids in mapped().items()}
        assert shared
        assert shared <= inodes.keys()
        for content in shared:
            assert len(inodes[content]) == 1
    assert not list(two[0].parent.glob(".vlacut.weights*"))


def test_the_command_serves_a_folder_of_bundles_and_says_so(
    two: tuple[Path, Path], vlacut: Vlacut
) -> None:
    words = [sys.executable, "-m", "vlacut", "serve", str(two[0].parent), "--port", "0", "--json"]
    with subprocess.Popen([*words, "--metrics", "0"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = json.loads(child.stdout.readline())
        try:
            assert [one["path"] for one in said["bundles"]] == [str(path) for path in two]
            status, out, error = vlacut("run", two[1], "--cloud", said["address"], "--json")
            assert status == 0, error
            assert json.loads(out)["max_abs_error"] == 0
            found = json.loads(vlacut("status", said["metrics"], "--json")[1])
            assert [one["loaded"] for one in found["bundles"]] == [False, True]
            assert [one["steps"] for one in found["bundles"]] == [0, 1]
            assert found["health"] == "ok"
            status, out, _ = vlacut("status", said["metrics"])
            assert status == 0
            assert "not loaded" in out
            assert "0 of 64 robots" in out
        finally:
            child.terminate()
    assert child.returncode == 0


def test_status_of_who_is_no_server(vlacut: Vlacut) -> None:
    server = Server([ready(PLAN, DIGEST, ENGINES)])
    with serving_thread(server):
        for address, said in (
            ("127.0.0.1:9", "does not answer"),
            ("127.0.0.1", "does not parse"),
            ("{}:{}".format(*server.address), "does not answer"),
        ):
            status, _, error = vlacut("status", address)
            assert status in (1, 2)
            assert said in error


def test_a_folder_without_bundles(vlacut: Vlacut, tmp_path: Path) -> None:
    status, _, error = vlacut("serve", tmp_path)
    assert (status, "holds none; make one" in error) == (2, True)
    logging.getLogger("vlacut").handlers.clear()
