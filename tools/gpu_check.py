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
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gpu_checking.page import Found, calibration_line, line, size_line, write
from gpu_checking.tiny_models import ON_CPU, STEPS, WAYS, check, why_not

from vlacut import registry
from vlacut.errors import UnsupportedError, VlacutError

ROBOTS = (1, 2, 4, 8)


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
    from gpu_checking.full_size import full_size

    rows = full_size(asked.full_size, "bfloat16", asked.device, provider, ROBOTS, asked.steps)
    for row in rows:
        print(size_line(asked.full_size, row), flush=True)
        found.full_size.append(row)


def _calibration(found: Found, asked: argparse.Namespace, provider: str) -> None:
    from gpu_checking.calibration import calibrated

    threads = 1 if asked.cpu else 0
    found.calibration = calibrated(asked.models, provider, asked.turns, threads)
    print(calibration_line(found.calibration), flush=True)


if __name__ == "__main__":
    main()
