"""What Prometheus and an orchestrator ask a server for."""

from __future__ import annotations

import logging
import socket
import threading
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.deployments import DIGEST, Held, crossing_deployment, served, serving_thread
from support.http import fetch
from support.programs import observation
from support.proxy import wait_until

from vlacut.api.answering import Answer, HttpServer
from vlacut.api.metrics import serve_metrics
from vlacut.errors import DeadlineMissed, InputError
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.sockets import listener, written


def test_what_prometheus_reads() -> None:
    """By its own parser: names, types and units as it wants them, and what was done."""
    program, plan, engines = crossing_deployment()
    with served(plan, engines) as server:
        place = written(*serve_metrics(server, "127.0.0.1", 0).address)
        with EdgeSession(plan, DIGEST, engines, server.address) as policy:
            for _ in range(3):
                policy.step(observation(program))
            assert wait_until(lambda: server.counts.steps == 3)
            with urllib.request.urlopen(f"http://{place}/metrics", timeout=10) as reply:
                kind, text = reply.headers["Content-Type"], reply.read().decode()
    assert kind.startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {name: family.type for name, family in families.items()} == {
        "vlacut_robots": "gauge",
        "vlacut_draining": "gauge",
        "vlacut_steps": "counter",
        "vlacut_steps_abandoned": "counter",
        "vlacut_events": "counter",
        "vlacut_part_seconds": "counter",
        "vlacut_tensor_bytes": "counter",
        "vlacut_batch_runs": "counter",
        "vlacut_load": "gauge",
        "vlacut_bundle_robots": "gauge",
        "vlacut_bundle_loaded": "gauge",
        "vlacut_bundle_steps": "counter",
        "vlacut_bundle_seconds": "counter",
    }
    assert all(family.documentation for family in families.values())
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert values["vlacut_steps_total",] == 3
    assert values["vlacut_robots",] == 1
    label = (plan.program, DIGEST.hex()[:12])
    assert values[("vlacut_bundle_steps_total", *label)] == 3
    assert values[("vlacut_bundle_robots", *label)] == values[("vlacut_bundle_loaded", *label)] == 1
    assert values[("vlacut_bundle_seconds_total", *label)] > 0
    assert values["vlacut_tensor_bytes_total", "up"] == 3 * plan.variants[0].price.bytes_up
    parts = {part.name for part in plan.cloud_parts[0]}
    assert {key[1] for key in values if key[0] == "vlacut_part_seconds_total"} == parts


def test_who_asks_and_is_silent_keeps_nobody_waiting() -> None:
    _, plan, engines = crossing_deployment()
    with served(plan, engines) as server:
        host, port = serve_metrics(server, "127.0.0.1", 0).address
        silent = [socket.create_connection((host, port)) for _ in range(3)]
        silent[0].sendall(b"GET /heal")
        try:
            for _ in range(3):
                assert fetch(f"http://{host}:{port}/healthz") == (200, "ok\n")
        finally:
            for sock in silent:
                sock.close()


def test_health_of_a_server_that_ends_its_steps() -> None:
    program, plan, engines = crossing_deployment()
    held = Held(engines[plan.cloud_parts[0][-1].name])
    with served(plan, {**engines, plan.cloud_parts[0][-1].name: held}, timeout=20.0) as server:
        place = written(*serve_metrics(server, "127.0.0.1", 0).address)
        policy = EdgeSession(plan, DIGEST, engines, server.address, 20.0)
        robot = threading.Thread(target=policy.step, args=(observation(program),))
        robot.start()
        assert held.began.wait(10)
        assert fetch(f"http://{place}/healthz") == (200, "ok\n")
        server.shutdown()
        assert fetch(f"http://{place}/healthz") == (503, "draining\n")
        assert "vlacut_draining 1.0" in fetch(f"http://{place}/metrics")[1]
        held.go.set()
        robot.join(20)
        policy.close()


def test_health_of_a_server_whose_engine_hangs() -> None:
    """It holds up every robot: whoever watches the server starts it anew."""
    program, plan, engines = crossing_deployment()
    name = plan.cloud_parts[0][-1].name
    held = Held(engines[name])
    with served(plan, {**engines, name: held}, timeout=0.2) as server:
        url = "http://" + written(*serve_metrics(server, "127.0.0.1", 0).address) + "/healthz"
        with EdgeSession(plan, DIGEST, engines, server.address, deadline=0.1) as policy:
            with pytest.raises(DeadlineMissed):
                policy.step(observation(program))
            assert held.began.wait(10)
            assert wait_until(lambda: fetch(url)[0] == 503)
            assert fetch(url)[1].startswith("stuck: an engine has run for ")
            held.go.set()
            assert wait_until(lambda: fetch(url) == (200, "ok\n"))


def test_metrics_over_ipv6_and_where_another_listens() -> None:
    _, plan, engines = crossing_deployment()
    server = Server([ready(plan, DIGEST, engines)])
    with serving_thread(server), listener("127.0.0.1", 0) as taken:
        place = written(*serve_metrics(server, "::1", 0).address)
        assert place.startswith("[::1]:")
        assert fetch(f"http://{place}/healthz") == (200, "ok\n")
        with pytest.raises(InputError, match="Address already in use"):
            serve_metrics(server, "127.0.0.1", taken.getsockname()[1])


def test_who_hangs_up_is_no_event(
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # commands that ran in this process log to where their standard error was
    monkeypatch.setattr(logging.getLogger("vlacut"), "handlers", [])
    _, plan, engines = crossing_deployment()
    with caplog.at_level(logging.DEBUG), served(plan, engines) as server:
        host, port = serve_metrics(server, "127.0.0.1", 0).address
        for data in (b"", b"GET", b"\xff\xfe\r\n\r\n", b"GET /metrics HTTP/1.1\r\n\r\n"):
            with socket.create_connection((host, port)) as sock:
                sock.sendall(data)
        assert fetch(f"http://{host}:{port}/healthz") == (200, "ok\n")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=abc",
        "application/openmetrics-text; version=1..0",
        "application/openmetrics-text; version=1.0.0; escaping=\xe9",
        "text/plain; version=\x00;;=,q=",
    ],
)
def test_no_request_ends_the_answers(accept: str) -> None:
    _, plan, engines = crossing_deployment()
    with served(plan, engines) as server:
        host, port = serve_metrics(server, "127.0.0.1", 0).address
        for _ in range(2):
            with socket.create_connection((host, port), 10) as sock:
                sock.sendall(f"GET /metrics HTTP/1.1\r\nAccept: {accept}\r\n\r\n".encode("latin-1"))
                reply = b"".join(iter(lambda sock=sock: sock.recv(4096), b""))
            assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
        assert fetch(f"http://{host}:{port}/healthz") == (200, "ok\n")


def test_an_answer_that_fails_is_one_answer(caplog: pytest.LogCaptureFixture) -> None:
    def fails(accept: str) -> Answer:
        raise RuntimeError("no\nsuch\x1b[31m")

    http = HttpServer("127.0.0.1", 0, {"/fails": fails, "/works": lambda _: Answer(b"yes")})
    for _ in range(2):
        status, _ = fetch(f"http://127.0.0.1:{http.address[1]}/fails")
        assert status == 500
    assert fetch(f"http://127.0.0.1:{http.address[1]}/works") == (200, "yes")
    assert [record.getMessage() for record in caplog.records] == [
        "no answer to GET /fails: no such?[31m"
    ] * 2


def test_what_peers_say_is_no_label(caplog: pytest.LogCaptureFixture) -> None:
    """Events and parts are the labels, whoever connects: memory does not grow by who asks."""
    _, plan, engines = crossing_deployment()
    with served(plan, engines) as server:
        host, port = serve_metrics(server, "127.0.0.1", 0).address
        for number in range(20):
            with socket.create_connection(server.address, 10) as sock:
                sock.sendall(f'bad"}} \x1b[2Jevil{{x="{number}\n'.encode() * 8)
                while sock.recv(4096):
                    pass
        assert wait_until(lambda: server.counts.events["refused"] == 20)
        text = fetch(f"http://{host}:{port}/metrics")[1]
    labels = {
        (sample.name, *sample.labels.values())
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels
    }
    assert {each for each in labels if each[0] == "vlacut_events_total"} == {
        ("vlacut_events_total", "refused")
    }
    assert "evil" not in text
    assert "evil" not in caplog.text
    assert caplog.records
    assert all(record.getMessage().isprintable() for record in caplog.records)
