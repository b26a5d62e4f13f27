"""The configuration of HAProxy: its text, and the real HAProxy between robots and servers."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from support.commands import Vlacut
from support.deployments import crossing_deployment, serving_thread
from support.programs import observation
from support.proxy import wait_until

from vlacut.api.cluster.balancing import haproxy_configuration
from vlacut.api.cluster.workers import Worker
from vlacut.api.metrics import serve_metrics
from vlacut.errors import PeerLost, PeerRefused
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.security import cloud_context, edge_context
from vlacut.runtime.wire.sockets import written

PROGRAM, PLAN, ENGINES = crossing_deployment()
ONE, OTHER, THIRD = (bytes([number]) * 32 for number in (1, 2, 3))


def test_the_text() -> None:
    workers = [Worker("10.0.0.5:7000", ("10.0.0.5", 9100)), Worker("[::1]:7001", ("::1", 9101))]
    text = haproxy_configuration(workers, {"10.0.0.5:7000": [OTHER, ONE, ONE]}, ":443")
    assert "    bind :443\n" in text
    rules = [line.split() for line in text.splitlines() if "use_backend" in line]
    name = f"{'01' * 16}.{'01' * 16}.vlacut"
    assert rules[0][:3] == ["use_backend", "bundle_010101010101", "if"]
    assert rules[0][3:8] == ["{", "req.ssl_sni", "-i", name, "}"]
    pools = {
        part.split("\n")[0]: [line.split()[1:3] for line in part.splitlines() if " server " in line]
        for part in text.split("\nbackend ")[1:]
    }
    assert pools == {
        "bundle_010101010101": [["s1", "10.0.0.5:7000"]],
        "bundle_020202020202": [["s1", "10.0.0.5:7000"]],
        "any": [["s1", "10.0.0.5:7000"], ["s2", "[::1]:7001"]],
    }
    assert "addr [::1] port 9101" in text


@contextmanager
def serving(keys: Path, *digests: bytes) -> Iterator[tuple[Server, Worker]]:
    server = Server([ready(PLAN, one, ENGINES) for one in digests], tls=cloud_context(keys))
    with serving_thread(server):
        yield (
            server,
            Worker(written(*server.address), serve_metrics(server, "127.0.0.1", 0).address),
        )


def cluster_file(path: Path, *workers: Worker) -> Path:
    rows = (
        f'[[workers]]\naddress = "{one.address}"\nmetrics = "{written(*one.metrics)}"\n'
        for one in workers
    )
    path.write_text("".join(rows))
    return path


def test_it_is_made_of_what_servers_say(keys: Path, vlacut: Vlacut, tmp_path: Path) -> None:
    nobody = Worker("127.0.0.1:1", ("127.0.0.1", 1))
    with serving(keys / "cloud", ONE) as (_, worker):
        path = cluster_file(tmp_path / "cluster.toml", worker, nobody)
        status, text, error = vlacut("cluster", "haproxy", path, "--listen", ":7001")
        assert status == 0, error
        assert text == haproxy_configuration([worker, nobody], {worker.address: [ONE]}, ":7001")
        assert "left out of all bundles: 127.0.0.1:1 does not answer" in error
        found = json.loads(vlacut("cluster", "haproxy", path, "--listen", ":7001", "--json")[1])
        assert found["configuration"] == text
        assert found["silent"].keys() == {"127.0.0.1:1"}
    path = cluster_file(tmp_path / "cluster.toml", nobody)
    status, _, error = vlacut("cluster", "haproxy", path)
    assert status == 1
    assert f"no server of {path} answers" in " ".join(error.split())


def test_a_server_that_drains_keeps_its_place(
    vlacut: Vlacut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is soon there again, with the same bundles; those that it gives up are none of its."""
    bundles = [{"digest": ONE.hex(), "retired": False}, {"digest": OTHER.hex(), "retired": True}]
    page = {"health": "draining", "bundles": bundles, "robots": 0, "most_robots": 1, "load": 0}
    monkeypatch.setattr("vlacut.cli.deploying.cluster.fetch_status", lambda *_: page)
    worker = Worker("127.0.0.1:1", ("127.0.0.1", 1))
    path = cluster_file(tmp_path / "cluster.toml", worker)
    status, text, _ = vlacut("cluster", "haproxy", path)
    assert status == 0
    assert text == haproxy_configuration([worker], {worker.address: [ONE]})


def test_no_host_writes_a_line_of_the_configuration(vlacut: Vlacut, tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    for host in ("a\\n    external-check command /bin/sh #", "a b"):
        path.write_text(f'[[workers]]\naddress = "{host}:1"\nmetrics = "a:2"\n')
        status, _, said = vlacut("cluster", "haproxy", path)
        assert status == 2
        assert "server 1: address" in " ".join(said.split())


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="there is no haproxy here")
def test_robots_come_to_the_servers_of_their_bundle(keys: Path, tmp_path: Path) -> None:
    """One that drains gets no more of them, and who holds what nobody has is told so."""
    with ExitStack() as stack:
        first, mine = stack.enter_context(serving(keys / "cloud", ONE, THIRD))
        second, other = stack.enter_context(serving(keys / "cloud", OTHER, THIRD))
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = ("127.0.0.1", free.getsockname()[1])
        has = {mine.address: [ONE, THIRD], other.address: [OTHER, THIRD]}
        path = tmp_path / "haproxy.cfg"
        path.write_text(haproxy_configuration([mine, other], has, written(*address)))
        checked = subprocess.run(["haproxy", "-c", "-f", path], capture_output=True, text=True)
        assert (checked.returncode, "WARNING" in checked.stderr) == (0, False), checked.stderr
        running = subprocess.Popen(["haproxy", "-db", "-f", path], stdout=subprocess.DEVNULL)
        stack.callback(running.wait)
        stack.callback(running.terminate)

        def listens() -> bool:
            with socket.socket() as probe:
                return not probe.connect_ex(address)

        assert wait_until(listens)

        def robot(digest: bytes) -> EdgeSession:
            tls = edge_context(keys / "robot")
            return stack.enter_context(EdgeSession(PLAN, digest, ENGINES, address, tls=tls))

        for digest, counts in ((ONE, (1, 0)), (OTHER, (1, 1)), (ONE, (2, 1)), (OTHER, (2, 2))):
            robot(digest).step(observation(PROGRAM))
            assert (first.robots, second.robots) == counts
        with pytest.raises(PeerRefused, match="holds another bundle"):
            robot(bytes(32))
        second.shutdown()
        assert wait_until(lambda: second.robots == 0)

        def let_in() -> bool:
            with suppress(PeerLost):  # until HAProxy has asked the one that drains
                robot(THIRD)
            return first.robots == 3

        assert wait_until(let_in)

        def gone() -> bool:
            """Whether robots of the bundle that went come to a server that says so."""
            try:
                robot(OTHER)
            except PeerLost:
                return False
            except PeerRefused as error:
                return "holds another bundle" in str(error)
            return False

        assert wait_until(gone)
