"""Run every executor that is on this machine's GPU, and say what each did and what was skipped.

    python tools/gpu_check.py --out gpu_check.json

Every tiny model of the zoo is cut, compiled for each executor, verified (every variant against the
uncut program) and stepped: both sides on this GPU, over a socket. It says the largest difference
and what is allowed, the step's time beyond its engines', and the plan's price beside it. It writes
one JSON object, and a page of the same name that ends in .md. Nothing is fetched.

On a machine without a GPU all is skipped, with the reason; --cpu runs the same on the CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import vlacut
from vlacut import registry
from vlacut.bundle.manifest import open_bundle
from vlacut.errors import VlacutError
from vlacut.hardware import Side
from vlacut.hardware.driver import seen_driver
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.engines import load_engines
from vlacut.runtime.verification import verify_bundle

WAYS = (("torch", "cuda"), ("onnxruntime", "cuda"), ("onnxruntime", "tensorrt"), ("tensorrt", ""))
ON_CPU = (("torch", "cpu"), ("onnxruntime", "cpu"))
STEPS = 20
"""Of each model by each executor; the first three are not counted."""


@dataclass(frozen=True)
class Ran:
    """A model by an executor; `why_not` is empty if it ran.

    Attributes:
        error, allowed: the worst cut's difference from the uncut program.
        step_ms, engines_ms: medians of a step, and of its engines by the device's own clock.
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


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--models", nargs="*", default=list(registry.names("models")))
    parser.add_argument("--device", default="a100", help="A profile of this GPU's.")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--cpu", action="store_true", help="The same on the CPU.")
    asked = parser.parse_args()
    ways = ON_CPU if asked.cpu else WAYS
    found = []
    for ran in check(asked.models, ways, asked.device, asked.steps):
        print(line(ran), flush=True)
        found.append(ran)
    write(asked.out, found)
    failed = [ran for ran in found if not ran.passed and not ran.why_not]
    raise SystemExit(1 if failed else 0)


def check(
    models: Sequence[str], ways: Sequence[tuple[str, str]], device: str, steps: int
) -> Iterator[Ran]:
    """Every model by every way; a way that is not here once, with the reason."""
    for backend, provider in ways:
        executor = f"{backend} {provider}".strip()
        reason = why_not(backend, provider)
        if reason:
            yield Ran("every model", executor, why_not=reason)
            continue
        for model in models:
            yield run(model, backend, provider, device, steps)


def why_not(backend: str, provider: str) -> str:
    """Why a way cannot be gone here; empty if it can."""
    recipe = {"provider": provider} if provider else None
    found = registry.load("doctors", backend)().examine(recipe)
    missing = [one for one in found if one.needed and not one.well]
    return "; ".join(f"{one.what} {one.found}: {one.follows}" for one in missing)


def run(model: str, backend: str, provider: str, device: str, steps: int) -> Ran:
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
            return _ran(path, Ran(model, executor), provider, steps)
        except VlacutError as error:
            return Ran(model, executor, why_not=f"{type(error).__name__}: {error}")


def _ran(path: Path, ran: Ran, provider: str, steps: int) -> Ran:
    bundle = open_bundle(path)
    if bundle.backend(Side.EDGE) in registry.names("engine_builders"):
        builder = registry.load("engine_builders", bundle.backend(Side.EDGE))()
        for side in Side:
            if bundle.parts(side):
                builder.build(bundle, side, "", lambda *_: None)
    results = [one for one in verify_bundle(bundle, provider=provider or "cpu") if not one.why_not]
    worst = max(results, key=lambda one: one.max_abs_error / (one.allowed or 1.0))
    times, engines = _stepped(bundle, steps)
    return Ran(
        ran.model,
        ran.executor,
        passed=all(one.passed for one in results),
        error=worst.max_abs_error,
        allowed=worst.allowed,
        step_ms=statistics.median(times) * 1e3,
        engines_ms=statistics.median(engines) * 1e3,
        price_ms=bundle.plan.variants[0].price.total_s * 1e3,
    )


def _stepped(bundle: Any, steps: int) -> tuple[list[float], list[float]]:
    """Seconds of steps, and of their engines; of an edge that has none, zeros."""
    import threading

    plan, observed = bundle.plan, bundle.golden("observation")
    initial = bundle.initial_state()
    cloud = load_engines(bundle, Side.CLOUD)
    server = Server([ready(plan, bundle.digest, cloud, initial)], "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    times, engines = [], []
    try:
        mine = load_engines(bundle, Side.EDGE)
        with EdgeSession(plan, bundle.digest, mine, server.address, initial=initial) as session:
            for _ in range(steps):
                start = time.perf_counter()
                session.step(observed)
                times.append(time.perf_counter() - start)
                engines.append(sum(session.last.device_s.values()))
    finally:
        server.shutdown()
        thread.join(10)
    return times[3:] or times, engines[3:] or engines


def line(ran: Ran) -> str:
    """For people."""
    where = f"{ran.executor:22} {ran.model:14}"
    if ran.why_not:
        return f"{where} skipped: {ran.why_not}"
    verdict = "within" if ran.passed else "DIFFERS"
    return (
        f"{where} {verdict} {ran.error:.2g} of {ran.allowed:.2g}; step {ran.step_ms:.2f} ms, of "
        f"which the edge's engines {ran.engines_ms:.2f}; price {ran.price_ms:.2f}"
    )


def write(out: Path, found: Sequence[Ran]) -> None:
    """The JSON object, and the page beside it."""
    driver = seen_driver()
    gpus = [asdict(gpu) for gpu in driver.gpus] if driver else []
    data = {"gpus": gpus, "cuda": driver.release if driver else "", "ran": list(map(asdict, found))}
    out.write_text(json.dumps(data, indent=1) + "\n")
    told = ", ".join(gpu.name for gpu in driver.gpus) if driver else "no NVIDIA driver"
    rows = "\n".join(f"    {line(ran)}" for ran in found)
    out.with_suffix(".md").write_text(f"# What ran on this machine\n\nGPU: {told}\n\n{rows}\n")


if __name__ == "__main__":
    main()
