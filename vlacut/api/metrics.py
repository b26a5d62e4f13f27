"""Metrics of a server for Prometheus, and its health, over HTTP."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from vlacut.api.answering import Answer, HttpServer
from vlacut.runtime.cloud.deployment import Deployment
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
        together = "Runs of parts that robots may share, by how many the engine is for."
        runs = {str(size): many for size, many in self._batch_runs().items()}
        yield _by("vlacut_batch_runs", together, "robots", runs)
        yield GaugeMetricFamily("vlacut_load", "Engine seconds a second.", self._server.load)
        yield from _by_bundle(self._server.bundles)

    def _batch_runs(self) -> Counter[int]:
        return sum((one.batch_runs for one in self._server.bundles), Counter())


def _by_bundle(bundles: Sequence[Deployment]) -> Iterator[Metric]:
    """What each bundle does; a bundle's name is its folder's, and its digest tells versions."""
    labels = ["bundle", "digest"]
    robots = GaugeMetricFamily("vlacut_bundle_robots", "Robots of a bundle.", labels=labels)
    loaded = GaugeMetricFamily("vlacut_bundle_loaded", "1 while it is loaded.", labels=labels)
    steps = CounterMetricFamily("vlacut_bundle_steps", "Steps to their end.", labels=labels)
    spent = CounterMetricFamily("vlacut_bundle_seconds", "Seconds of its engines.", labels=labels)
    for one in bundles:
        label = [one.name, one.digest.hex()[:12]]
        robots.add_metric(label, one.sessions)
        loaded.add_metric(label, int(one.engines is not None))
        steps.add_metric(label, one.counts.steps)
        spent.add_metric(label, one.counts.engine_s)
    yield from (robots, loaded, steps, spent)


def _by(name: str, help_text: str, label: str, found: Any) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=[label])
    for key, value in sorted(found.items()):
        family.add_metric([key], value)
    return family


def status_of(server: Server) -> dict[str, Any]:
    """What a server does now, as `/status` says it."""
    return {
        "version": version("vlacut"),
        "health": _health(server),
        "instance": server.instance,
        "robots": server.robots,
        "most_robots": server.most_robots,
        "load": server.load,
        "memory_bytes": server.memory.device,
        "bundles": [_bundle_status(one) for one in server.bundles],
    }


def _bundle_status(one: Deployment) -> dict[str, Any]:
    return {
        "name": one.name,
        "program": one.plan.program,
        "digest": one.digest.hex(),
        "loaded": one.engines is not None,
        "retired": one.retired_s is not None,
        "robots": one.sessions,
        "steps": one.counts.steps,
        "step_ms": one.step_s * 1e3,
        "weights_bytes": sum(one.weights.values()),
        "robot_bytes": one.memory.robot,
    }


def _health(server: Server) -> str:
    if server.draining:
        return "draining"
    stuck = server.stuck_s
    return f"stuck: an engine has run for {stuck:.0f} s" if stuck else "ok"


def serve_metrics(server: Server, host: str, port: int) -> HttpServer:
    """Serve `/metrics`, `/healthz` and `/status` from a thread, on a port (0: a free one).

    `/healthz` is 200 `ok` while robots are taken, 503 `draining` after SIGTERM, 503 `stuck` while
    an engine runs for longer than robots wait. `/status` is what `vlacut status` shows, as JSON.
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

    def status(_: str) -> Answer:
        return Answer(json.dumps(status_of(server)).encode() + b"\n", "application/json")

    pages = {"/metrics": metrics, "/healthz": health, "/status": status}
    return HttpServer(host, port, pages)
