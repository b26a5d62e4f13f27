"""Metrics of a server for Prometheus, and its health, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, Metric, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from vlacut.runtime.cloud.server import Server
from vlacut.runtime.wire.sockets import listener


class _Counts(Collector):
    """What a server has done, read when it is asked for."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        counts = self._server.counts
        yield GaugeMetricFamily("vlacut_robots", "Robots now served.", self._server.robots)
        draining = "1 while the server ends: it takes no robots, and steps that have begun end."
        yield GaugeMetricFamily("vlacut_draining", draining, int(self._server.draining))
        yield CounterMetricFamily("vlacut_steps", "Steps served to their end.", counts.steps)
        yield CounterMetricFamily(
            "vlacut_steps_abandoned", "Steps that the robot gave up.", counts.abandoned
        )
        yield _by("vlacut_events", "Sessions by what became of them.", "event", counts.events)
        yield _by("vlacut_part_seconds", "Running parts, and waiting to.", "part", counts.part_s)
        moved = {"up": counts.received, "down": counts.sent}
        yield _by("vlacut_tensor_bytes", "Tensors that crossed the link.", "direction", moved)


def _by(name: str, help_text: str, label: str, found: Any) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=[label])
    for key, value in sorted(found.items()):
        family.add_metric([key], value)
    return family


def _health(server: Server) -> str:
    if server.draining:
        return "draining"
    stuck = server.stuck_s
    return f"stuck: an engine has run for {stuck:.0f} s" if stuck else "ok"


class _Handler(WSGIRequestHandler):
    timeout = 5.0  # seconds that a client may be silent

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not events of the server."""


class _Http(ThreadingMixIn, WSGIServer):
    """A thread a request: who asks and is then silent keeps nobody else waiting."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__((host, port), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener(host, port)
        self.server_name, self.server_port = host, self.socket.getsockname()[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who hangs up while it is answered is no event of the server either."""


def serve_metrics(server: Server, host: str, port: int) -> tuple[str, int]:
    """Serve `/metrics` and `/healthz` from a thread; host and port (0 takes a free one).

    `/healthz` is 200 `ok` while robots are taken, 503 `draining` after SIGTERM, 503 `stuck` while
    an engine runs for longer than robots wait.
    Raises InputError if the address cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(_Counts(server))
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/metrics":
            found: Iterable[bytes] = metrics(environ, start)
            return found
        if environ["PATH_INFO"] != "/healthz":
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"there are /metrics and /healthz\n"]
        health = _health(server)
        status = "200 OK" if health == "ok" else "503 Service Unavailable"
        start(status, [("Content-Type", "text/plain")])
        return [f"{health}\n".encode()]

    http = _Http(host, port)
    http.set_app(app)
    threading.Thread(target=http.serve_forever, name="metrics", daemon=True).start()
    return host, http.server_port
