"""Metrics of a server for Prometheus, and its health, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from vlacut.cli.answering import Answer, HttpServer
from vlacut.runtime.cloud.server import Server


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


def serve_metrics(server: Server, host: str, port: int) -> tuple[str, int]:
    """Serve `/metrics` and `/healthz` from a thread; host and port (0 takes a free one).

    `/healthz` is 200 `ok` while robots are taken, 503 `draining` after SIGTERM, 503 `stuck` while
    an engine runs for longer than robots wait.
    Raises InputError if the address cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(_Counts(server))

    def metrics(accept: str) -> Answer:
        try:
            encode, kind = choose_encoder(accept)
        except (TypeError, ValueError):  # of a version that is none
            encode, kind = choose_encoder("")
        return Answer(encode(registry), kind)

    def health(_: str) -> Answer:
        said = _health(server)
        status = HTTPStatus.OK if said == "ok" else HTTPStatus.SERVICE_UNAVAILABLE
        return Answer(f"{said}\n".encode(), status=status)

    http = HttpServer(host, port, {"/metrics": metrics, "/healthz": health})
    return host, http.port
