"""Tiny models by every executor that is here, both of their sides on this machine."""

from __future__ import annotations

import statistics
import tempfile
import threading
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import vlacut
from vlacut import registry
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle
from vlacut.errors import VlacutError
from vlacut.hardware import Side
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.report import StepReport
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.edge.timeline import about_bundle, trace_json
from vlacut.runtime.engines import load_engines
from vlacut.runtime.verification import verify_bundle

WAYS = (("torch", "cuda"), ("onnxruntime", "cuda"), ("onnxruntime", "tensorrt"), ("tensorrt", ""))
ON_CPU = (("torch", "cpu"), ("onnxruntime", "cpu"))
STEPS, UNCOUNTED = 20, 3
"""Of each model by each executor; the first are not counted."""


@dataclass(frozen=True)
class Ran:
    """A model by an executor; `why_not` is empty if it ran.

    Attributes:
        error, allowed: the worst cut's difference from the uncut program.
        step_ms, engines_ms: medians of a step, and of its engines on both sides.
        price_ms: that the plan predicts for the step, on the devices it was compiled for.
    """

    model: str
    executor: str
    passed: bool = False
    error: float = 0.0
    allowed: float = 0.0
    step_ms: float = 0.0
    engines_ms: float = 0.0
    price_ms: float = 0.0
    why_not: str = ""


def check(
    models: Sequence[str],
    ways: Sequence[tuple[str, str]],
    device: str,
    steps: int,
    trace: Path | None = None,
) -> Iterator[Ran]:
    """Every model by every way; a way that is not here once, with the reason. The first that runs
    writes its timeline to `trace`.
    """
    for backend, provider in ways:
        executor = f"{backend} {provider}".strip()
        reason = why_not(backend, provider)
        if reason:
            yield Ran("every model", executor, why_not=reason)
            continue
        for model in models:
            wanted = trace if trace is not None and not trace.exists() else None
            yield run(model, backend, provider, device, steps, wanted)


def why_not(backend: str, provider: str) -> str:
    """Why a way cannot be gone here; empty if it can."""
    recipe = {"provider": provider} if provider else None
    found = registry.load("doctors", backend)().examine(recipe)
    missing = [one for one in found if one.needed and not one.well]
    return "; ".join(f"{one.what} {one.found}: {one.follows}" for one in missing)


def run(
    model: str, backend: str, provider: str, device: str, steps: int, trace: Path | None = None
) -> Ran:
    """A tiny model by an executor, both of its sides here."""
    executor = f"{backend} {provider}".strip()
    with tempfile.TemporaryDirectory(prefix="vlacut-") as folder:
        path = Path(folder) / "policy.vlacut"
        try:
            vlacut.compile(
                f"{model}:tiny",
                out=path,
                edge=device,
                cloud=device,
                link="10GB/s,0us",
                backend=backend,
                provider=provider,
            )
            return _ran(path, Ran(model, executor), provider, steps, trace)
        except VlacutError as error:
            return Ran(model, executor, why_not=f"{type(error).__name__}: {error}")


def _ran(path: Path, ran: Ran, provider: str, steps: int, trace: Path | None) -> Ran:
    bundle = open_bundle(path)
    if bundle.backend(Side.EDGE) in registry.names("engine_builders"):
        builder = registry.load("engine_builders", bundle.backend(Side.EDGE))()
        for side in Side:
            if bundle.parts(side):
                builder.build(bundle, side, "", lambda *_: None)
    results = [one for one in verify_bundle(bundle, provider=provider or "cpu") if not one.why_not]
    worst = max(results, key=lambda one: one.max_abs_error / (one.allowed or 1.0))
    reports = _stepped(bundle, steps)
    if trace is not None:
        about = about_bundle(bundle.plan, bundle.digest)
        trace.write_text(trace_json(reports, about=about) + "\n")
    counted = reports[UNCOUNTED:] or reports
    engines = [_engines_ns(report, bundle.plan.part) for report in counted]
    times = [report.returned_ns - report.began_ns for report in counted]
    return Ran(
        ran.model,
        ran.executor,
        passed=all(one.passed for one in results),
        error=worst.max_abs_error,
        allowed=worst.allowed,
        step_ms=statistics.median(times) * 1e-6,
        engines_ms=statistics.median(engines) * 1e-6,
        price_ms=bundle.plan.variants[0].price.total_s * 1e3,
    )


def _stepped(bundle: Bundle, steps: int) -> list[StepReport]:
    """Reports of steps, both sides here."""
    plan, observed = bundle.plan, bundle.golden("observation")
    initial = bundle.initial_state()
    cloud = load_engines(bundle, Side.CLOUD)
    server = Server([ready(plan, bundle.digest, cloud, initial)], "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    reports = []
    try:
        mine = load_engines(bundle, Side.EDGE)
        with EdgeSession(plan, bundle.digest, mine, server.address, initial=initial) as session:
            for _ in range(steps):
                session.step(observed)
                reports.append(session.last)
    finally:
        server.shutdown()
        thread.join(10)
    return reports


def _engines_ns(report: StepReport, parts: Container[str]) -> int:
    """Nanoseconds in which a part ran on either side. Parts of both sides run at once where neither
    waits for the other, so this is less than their sum.
    """
    spans = (*report.spans[Side.EDGE.value], *report.spans[Side.CLOUD.value])
    ran = sorted((one.start_ns, one.end_ns) for one in spans if one.name in parts)
    busy, until_ns = 0, 0
    for start_ns, end_ns in ran:
        busy += max(0, end_ns - max(start_ns, until_ns))
        until_ns = max(until_ns, end_ns)
    return busy
