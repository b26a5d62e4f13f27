"""Servers that share robots by a file."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.commands import Vlacut
from support.deployments import crossing_deployment, serving_thread
from support.programs import observation
from support.proxy import wait_until

from vlacut.api.cluster import asking
from vlacut.api.cluster.following import Follower
from vlacut.api.cluster.workers import Worker, read_workers
from vlacut.api.metrics import serve_metrics
from vlacut.errors import InputError
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.directory import Directory
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.sockets import written

PROGRAM, PLAN, ENGINES = crossing_deployment()
ONE, OTHER = bytes([1]) * 32, bytes([2]) * 32


@contextmanager
def serving(digest: bytes, directory: Directory | None) -> Iterator[tuple[Server, Worker]]:
    server = Server([ready(PLAN, digest, ENGINES)], timeout=10.0, directory=directory)
    with serving_thread(server):
        yield (
            server,
            Worker(written(*server.address), serve_metrics(server, "127.0.0.1", 0).address),
        )


def test_a_server_asks_the_others_and_sends_robots_there(caplog: pytest.LogCaptureFixture) -> None:
    directory = Directory()
    with ExitStack() as stack:
        one, mine = stack.enter_context(serving(ONE, directory))
        other, theirs = stack.enter_context(serving(OTHER, None))
        follower = Follower((mine, theirs), one, directory, period_s=0.01)
        follower.ask_all()
        assert [each.address for each in directory.all] == [theirs.address]
        with EdgeSession(PLAN, OTHER, ENGINES, one.address) as session:
            session.step(observation(PROGRAM))
            assert other.robots == 1
        other.retire(OTHER)
        follower.start()
        assert wait_until(lambda: not directory.place(OTHER))
        follower.close()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[:2]
    silent = Follower((Worker(theirs.address, nobody),), one, directory)
    silent.ask_all()
    silent.ask_all()
    assert not directory.all
    assert caplog.text.count(f"no robots are sent to {theirs.address}: ") == 1


PAGE = {
    **{name: "x" for name in ("version", "health", "instance")},
    "robots": 1,
    "most_robots": 2,
    "load": 0.5,
    "memory_bytes": 0,
    "bundles": [
        {
            "name": "x",
            "digest": "ab" * 32,
            "loaded": True,
            "retired": False,
            "robots": 1,
            "steps": 2,
            "step_ms": 1.5,
            "weights_bytes": 3,
            "robot_bytes": 4,
        }
    ],
}


@pytest.mark.parametrize(
    ("where", "name", "bad"),
    [
        *[("page", "robots", bad) for bad in (-1, 10**400, 0.5, None)],
        *[("page", "load", bad) for bad in (float("nan"), float("inf"), -0.1, "1")],
        *[("bundle", "digest", bad) for bad in ("no hex", "abc", 3)],
    ],
)
def test_a_page_that_lies_is_no_page(where: str, name: str, bad: Any) -> None:
    """Else it would end the thread that asks, or the one that accepts robots."""
    page: dict[str, Any] = json.loads(json.dumps(PAGE))
    asking._check(page)
    assert page == PAGE
    (page if where == "page" else page["bundles"][0])[name] = bad
    with pytest.raises((ValueError, TypeError)):
        asking._check(page)


def cluster_file(path: Path, *workers: tuple[str, str]) -> Path:
    text = "".join(f'[[workers]]\naddress = "{a}"\nmetrics = "{m}"\n' for a, m in workers)
    path.write_text(text)
    return path


def test_the_file(tmp_path: Path) -> None:
    path = cluster_file(tmp_path / "cluster.toml", ("10.0.0.5:7000", "[::1]:9100"))
    assert read_workers(path) == (Worker("10.0.0.5:7000", ("::1", 9100)),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[workers]", "is no TOML"),
        ("", "lists no server"),
        ("workers = 3", "lists no server"),
        ("ray = 3", "has ray"),
        ("[[workers]]\naddress = 'a:1'", "server 1: needs address and metrics"),
        ("[[workers]]\naddress = 'a:1'\nmetrics = 3", "server 1: metrics is no text"),
        ("[[workers]]\naddress = 'a'\nmetrics = 'a:1'", "server 1: address 'a' does not parse"),
        ("[[workers]]\naddress = 'a:1'\nmetrics = 'a'", "server 1: address 'a' does not parse"),
        ("[[workers]]\naddress = 'a:1'\nmetrics = 'a:2'\n" * 2, "two servers have one address"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_workers(path)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_workers(tmp_path / "none.toml")


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        socks = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(sock.getsockname()[1]) for sock in socks]


def test_the_commands(split_bundle: Path, vlacut: Vlacut, tmp_path: Path) -> None:
    """One server runs; a robot that asks the one that does not is served by it."""
    served, metrics, nobody = (f"127.0.0.1:{port}" for port in free_ports(3))
    path = cluster_file(tmp_path / "cluster.toml", (served, metrics), (nobody, nobody))
    words: list[Any] = ["serve", split_bundle, "--port", served.rpartition(":")[2], "--json"]
    status, _, error = vlacut(*words, "--cluster", path)
    assert status == 2
    assert "give --metrics, too" in error
    words = [sys.executable, "-m", "vlacut", *words, "--cluster", path, "--metrics", metrics]
    with subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["address"] == served
        try:
            status, out, error = vlacut(
                "run", split_bundle, "--cloud", f"{nobody},{served}", "--json"
            )
            assert status == 0, error
            assert json.loads(out)["max_abs_error"] == 0
            status, out, _ = vlacut("status", path)
            assert status == 0
            assert "does not answer" in " ".join(out.split())
            found = json.loads(vlacut("status", path, "--json")[1])["servers"]
            assert found[served]["health"] == "ok"
        finally:
            child.terminate()
    assert child.returncode == 0
    status, _, error = vlacut("status", path)
    assert status == 1
    assert f"no server of {path} answers" in " ".join(error.split())
