"""Metrics of a server for Prometheus, and its health, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, Metric, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from vlacut.errors import InputError
from vlacut.runtime.server import Server


class _Counts(Collector):
    """What a server has done, read when it is asked for."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        counts = self._server.counts
        yield GaugeMetricFamily("vlacut_robots", "Robots now served.", self._server.robots)
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


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not events of the server."""


def serve_metrics(server: Server, host: str, port: int) -> tuple[str, int]:
    """Serve `/metrics` and `/healthz` from a thread; host and port (0 takes a free one).

    `/healthz` is 200 `ok` while robots are taken, 503 `draining` after SIGTERM.
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
        draining = server.draining
        start("503 Service Unavailable" if draining else "200 OK", [("Content-Type", "text/plain")])
        return [b"draining\n" if draining else b"ok\n"]

    try:
        http = make_server(host, port, app, handler_class=_Quiet)
    except OSError as error:
        raise InputError(f"cannot serve metrics on {host}:{port}: {error.strerror}") from error
    threading.Thread(target=http.serve_forever, name="metrics", daemon=True).start()
    return host, http.server_port
