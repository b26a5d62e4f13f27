"""Does switching cost anything? Steps that switch and steps that do not, interleaved, in one run.

A tiny model is cut in half, with a pool in either form of engines, and served by a second process
over loopback. Every step runs a variant at random; a step switches if the one before ran another.
Latencies are compared within a variant: `switch / stay` is the ratio of the medians, over all
variants that of latencies relative to their variant's median. Frames are counted by the edge. Then
the two forms of engines take turns, step by step.

    python tools/bench_switch.py [--model cogact:tiny] [--steps 1000]
    python tools/bench_switch.py --precisions w8a8,w4a16,w4a8 [--steps 100] [--width 512]
        [--method gptq]

With `--precisions` the variants are those of the decoder of `decode_heavy.py` in fewer bits, all in
the cloud: this machine, planned for as one whose memory is so slow that fewer bytes are always
quicker, or the plan would leave out what it thinks slow. 4 bits are rounded to the nearest: by GPTQ
it takes minutes, and the time of a step does not depend on what the codes are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from decode_heavy import Decoder, Size

import vlacut
from vlacut import registry
from vlacut.api import Policy
from vlacut.bundle.opened import Bundle
from vlacut.cli.show.output import console, milliseconds, size, table
from vlacut.compiler.driver import compile_program
from vlacut.compiler.precision_list import ROUNDING_METHODS
from vlacut.compiler.target import Target
from vlacut.hardware.profile_file import load_profile, profile_text
from vlacut.ir.dataflow import weights_of
from vlacut.plans.pool import FORMS
from vlacut.runtime.network.selectors import RANDOM

_WARM_UP = 20
_SLOW = 1e8  # bytes per second
_TARGET = Target("jetson-agx-orin", "a100", "1GB/s,0.02ms")


@dataclass(frozen=True)
class Step:
    """What was measured of a step."""

    variant: str
    switched: bool
    latency_s: float
    frames: int


def main() -> None:
    """Compile both forms, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="cogact:tiny")
    parser.add_argument("--steps", default=1000, type=int)
    parser.add_argument("--precisions", default="")
    parser.add_argument("--method", default="rtn", choices=ROUNDING_METHODS)
    parser.add_argument("--width", default=Size.width, type=int, help="with --precisions")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root, policies = Path(folder), {}
        if chosen.precisions:
            bundles = {"segments": in_fewer_bits(chosen, root)}
        else:
            bundles = {form: compiled(chosen.model, form, root / form) for form in FORMS}
        for form, bundle in bundles.items():
            address = stack.enter_context(served(bundle))
            policies[form] = stack.enter_context(
                vlacut.connect(bundle.root, address, selector=RANDOM)
            )
        steps = drive(policies, chosen.steps)
        show_switching(steps["segments"])
        if not chosen.precisions:
            show_forms(steps, policies["segments"].bundle)


def compiled(model: str, form: str, out: Path) -> Bundle:
    """A bundle of the model cut in half, with a pool of as many bytes as half of its weights."""
    name, _, preset = model.partition(":")
    program = registry.load("models", name)(preset or "tiny")
    room = sum(weights_of(program).values()) // 2
    passes = (
        "simplify",
        "annotate-structure",
        f"annotate-cost{{edge={_TARGET.edge} cloud={_TARGET.cloud}}}",
        f"partition{{link={_TARGET.link} strategy=fixed-half}}",
        f"alternatives{{pool=portfolio:{room}B bandwidth=1MB/s-10GB/s engines={form}}}",
    )
    return compile_program(program, _TARGET, out, pipeline=",".join(passes))[1]


def in_fewer_bits(chosen: argparse.Namespace, folder: Path) -> Bundle:
    """A bundle of a decoder as it is and in these precisions, all of it in the cloud."""
    device = folder / "slow.toml"
    device.write_text(slow_memory(_TARGET.edge))
    return vlacut.compile(
        Decoder(Size(width=chosen.width), 16, 6).program(),
        out=folder / "it",
        edge=str(device),
        cloud=str(device),
        link=_TARGET.link,
        pin=["*=cloud"],
        precisions=chosen.precisions,
        rounding_method=chosen.method,
        model_check=False,
    )


def slow_memory(name: str) -> str:
    """The profile of a device of that name with slow memory, as TOML.

    W4A16, which errs less than W4A8, is planned to take longer than that over the prompt alone, of
    32 operations a weight of 0.625 bytes, and less time in all than W8A8.
    """
    profile = load_profile(name)
    peak = {**profile.device.peak, "w4a16": 160 * _SLOW}
    slow = replace(profile.device, peak=peak, memory_bandwidth=_SLOW, cache_bandwidth=_SLOW)
    return profile_text(replace(profile, device=slow))


@contextmanager
def served(bundle: Bundle) -> Iterator[str]:
    """The bundle's cloud side in a second process; yields its address."""
    words = [sys.executable, "-m", "vlacut", "serve", str(bundle.root), "--port", "0", "--json"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield str(json.loads(server.stdout.readline())["address"])
        finally:
            server.terminate()


def drive(policies: dict[str, Policy], count: int) -> dict[str, list[Step]]:
    """Steps by form, the forms taking turns; what warms up is left out."""
    steps: dict[str, list[Step]] = {form: [] for form in policies}
    observed = next(iter(policies.values())).bundle.golden("observation")
    for _ in range(count + _WARM_UP):
        for form, policy in policies.items():
            policy.step(observed)
            last, before = policy.last, steps[form][-1:]
            switched = bool(before) and before[0].variant != last.variant
            steps[form].append(Step(last.variant, switched, last.latency_s, last.frames))
    return {form: found[_WARM_UP:] for form, found in steps.items()}


def show_switching(steps: Sequence[Step]) -> None:
    """Medians by variant, and the ratio over all."""
    rows: list[tuple[str, ...]] = []
    relative: dict[bool, list[float]] = {True: [], False: []}
    for name in dict.fromkeys(step.variant for step in steps):
        mine = [step for step in steps if step.variant == name]
        middle = float(np.median([step.latency_s for step in mine]))
        found = {}
        for switched in (False, True):
            times = [step.latency_s for step in mine if step.switched is switched]
            relative[switched] += [seconds / middle for seconds in times]
            found[switched] = float(np.median(times)) if times else float("nan")
        frames = sorted({(step.switched, step.frames) for step in mine})
        counted = ", ".join(f"{count} {'switch' if one else 'stay'}" for one, count in frames)
        ratio = found[True] / found[False]
        stay, switch = milliseconds(found[False]), milliseconds(found[True])
        rows.append((name, str(len(mine)), stay, switch, f"{ratio:.4f}", counted))
    columns = ("variant", "steps", "stay ms", "switch ms", "switch / stay", "frames")
    console().print(table("Medians of steps", columns, rows))
    ratio = float(np.median(relative[True]) / np.median(relative[False]))
    console().print(f"\nover all variants, switch / stay: {ratio:.4f}")


def show_forms(steps: dict[str, list[Step]], bundle: Bundle) -> None:
    """Medians by variant of either form, and what their engines hold."""
    rows = []
    for name in [variant.name for variant in bundle.plan.variants]:
        found = [
            float(np.median([step.latency_s for step in steps[form] if step.variant == name]))
            for form in FORMS
        ]
        rows.append((name, *map(milliseconds, found), f"{found[0] / found[1]:.3f}"))
    columns = ("variant", *(f"{form} ms" for form in FORMS), " / ".join(FORMS))
    console().print(table("\nForms of engines, medians of steps", columns, rows))
    for form in bundle.plan.pool.forms:
        held = f"{size(form.edge_bytes)} and {size(form.cloud_bytes)}"
        console().print(f"{form.form}: {form.edge} edge, {form.cloud} cloud engines; {held}")


if __name__ == "__main__":
    main()
