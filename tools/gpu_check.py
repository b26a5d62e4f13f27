"""Run everything that is on this machine's GPU, and say what each did and what was skipped.

    python tools/gpu_check.py --out gpu_check.json

1. Every tiny model of the zoo is cut, compiled for each executor, verified (every variant against
   the uncut program) and stepped: both sides on this GPU, over a socket. It says the largest
   difference and what is allowed, the step's time beyond its engines', and the plan's price beside
   it. The steps of the first are a timeline, for ui.perfetto.dev.
2. openvla at its full size in bfloat16, by PyTorch, with random weights that are made on the
   device: a step of the whole and of RoboECC's cut, and the part that reads most weights for 1 to
   8 robots at once, each against its price.
3. Calibration, and its error on parts of tiny models that it never saw.

It writes one JSON object, and a page of the same name that ends in .md. Nothing is fetched. What
would begin after --minutes is skipped, with the reason, as is what this machine lacks: without a
GPU all of it. --cpu runs the same on the CPU; with --full-size openvla:tiny that takes minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import vlacut
from vlacut import registry
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle
from vlacut.errors import UnsupportedError, VlacutError
from vlacut.hardware import Side
from vlacut.hardware.driver import seen_driver
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
ROBOTS = (1, 2, 4, 8)


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


@dataclass
class Found:
    """All that the check found.

    Attributes:
        ran: models by executors.
        full_size: rows of `gpu_full_size`.
        calibration: of `gpu_calibration`; None where it did not run.
        skipped: sections that did not run, with the reason.
        timeline: file of the steps of the first model; empty without one.
    """

    ran: list[Ran] = field(default_factory=list)
    full_size: list[Any] = field(default_factory=list)
    calibration: Any = None
    skipped: dict[str, str] = field(default_factory=dict)
    timeline: str = ""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--models", nargs="*", default=list(registry.names("models")))
    parser.add_argument("--device", default="a100", help="A profile of this GPU's.")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--full-size", default="openvla", help="A preset; empty for none.")
    parser.add_argument("--turns", type=int, default=3, help="Of calibration; 0 for none.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--cpu", action="store_true", help="The same on the CPU.")
    asked = parser.parse_args()
    found = everything(asked)
    write(asked.out, found, asked.full_size)
    failed = [ran for ran in found.ran if not ran.passed and not ran.why_not]
    raise SystemExit(1 if failed else 0)


def everything(asked: argparse.Namespace) -> Found:
    """All sections, as far as time allows; each prints what it finds."""
    found, until = Found(), time.monotonic() + 60 * asked.minutes
    provider = "cpu" if asked.cpu else "cuda"
    if asked.full_size:
        _section(found, "full size", until, partial(_full_size, found, asked, provider))
    if asked.turns:
        _section(found, "calibration", until, partial(_calibration, found, asked, provider))
    trace = asked.out.with_suffix(".trace.json")
    for ran in check(asked.models, ON_CPU if asked.cpu else WAYS, asked.device, asked.steps, trace):
        print(line(ran), flush=True)
        found.ran.append(ran)
        if time.monotonic() > until:
            found.skipped["tiny models"] = f"{asked.minutes:g} minutes are over"
            break
    if trace.exists():
        found.timeline = trace.name
    return found


def _section(found: Found, name: str, until: float, run_it: Callable[[], None]) -> None:
    """Run a section; what it lacks is the reason why it did not."""
    if time.monotonic() > until:
        found.skipped[name] = "the minutes are over"
    else:
        try:
            run_it()
        except (VlacutError, ImportError) as error:
            found.skipped[name] = f"{type(error).__name__}: {error}"
        except RuntimeError as error:  # PyTorch's own: memory, the driver
            found.skipped[name] = f"PyTorch: {str(error).strip().partition(chr(10))[0]}"
    if name in found.skipped:
        print(f"{name}: skipped: {found.skipped[name]}", flush=True)


def _full_size(found: Found, asked: argparse.Namespace, provider: str) -> None:
    reason = why_not("torch", provider)
    if reason:
        raise UnsupportedError(reason)
    from gpu_full_size import full_size

    rows = full_size(asked.full_size, "bfloat16", asked.device, provider, ROBOTS, asked.steps)
    for row in rows:
        print(size_line(asked.full_size, row), flush=True)
        found.full_size.append(row)


def _calibration(found: Found, asked: argparse.Namespace, provider: str) -> None:
    from gpu_calibration import calibrated

    threads = 1 if asked.cpu else 0
    found.calibration = calibrated(asked.models, provider, asked.turns, threads)
    print(calibration_line(found.calibration), flush=True)


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


def line(ran: Ran) -> str:
    """For people."""
    where = f"{ran.executor:22} {ran.model:14}"
    if ran.why_not:
        return f"{where} skipped: {ran.why_not}"
    verdict = "within" if ran.passed else "DIFFERS"
    return (
        f"{where} {verdict} {ran.error:.2g} of {ran.allowed:.2g}; step {ran.step_ms:.2f} ms, "
        f"{ran.step_ms - ran.engines_ms:.2f} beyond its engines; price {ran.price_ms:.2f}"
    )


def size_line(model: str, row: Any) -> str:
    """Of a model at full size, for people."""
    device = f", {row.engines_ms:.2f} on the device" if row.engines_ms else ""
    off = row.price_ms / (row.engines_ms or row.ms) - 1
    return (
        f"{model} {row.what}: {row.ms:.2f} ms{device}; price {row.price_ms:.2f}, {off:+.0%}; "
        f"{row.weights / 1e9:.3g} GB of weights"
    )


def calibration_line(found: Any) -> str:
    """Of a calibration, for people."""
    return (
        f"calibration by {found.backend}: {found.graphs} graphs, median error of the fit "
        f"{found.fit_error:.1%}; {len(found.unseen)} parts it never saw: {found.said}"
    )


def write(out: Path, found: Found, model: str = "openvla") -> None:
    """The JSON object, and the page beside it."""
    driver = seen_driver()
    gpus = [asdict(gpu) for gpu in driver.gpus] if driver else []
    told = ", ".join(gpu.name for gpu in driver.gpus) if driver else "no NVIDIA driver"
    data = {"gpus": gpus, "cuda": driver.release if driver else "", **asdict(found)}
    out.write_text(json.dumps(data, indent=1) + "\n")
    sections = {
        "Tiny models": [line(ran) for ran in found.ran],
        "Full size": [size_line(model, row) for row in found.full_size],
        "Calibration": [calibration_line(found.calibration)] if found.calibration else [],
        "Skipped": [f"{name}: {reason}" for name, reason in found.skipped.items()],
        "Timeline": [f"{found.timeline}, for ui.perfetto.dev"] if found.timeline else [],
    }
    text = f"# What ran on this machine\n\nGPU: {told}\n"
    for title, lines in sections.items():
        if lines:
            text += f"\n## {title}\n\n" + "".join(f"    {one}\n" for one in lines)
    out.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
