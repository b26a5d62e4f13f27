"""What packing gains where reading weights is what takes time: rate, latency and age, side by side.

A decoder of 300 MB in float32 says seven tokens, trip by trip, with requests in flight (K of them),
and in one pass on drafts that are all right. Every way is a bundle of its own, run by the real
runtime with one thread, and all ways take turns. `x rate` and `x latency` are to the plain program.
`age` is that of the action in force on average: from the picture to the middle of its use,
(K + 1/2) steps. `x prefill` is to a prefill that sees as many tokens more as the loop has trips.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from decode_heavy import Decoder, Size
from one_thread import with_one_thread
from rich.console import Console
from rich.table import Table

import vlacut
from vlacut.api.connecting import Policy
from vlacut.compiler.target import Target
from vlacut.compiler.target_pipeline import pipeline_for
from vlacut.ir.program import Program

TRIPS = 6
PROMPTS = (16, 32, 64, 128, 277)
WARM_UP = 8  # steps: as many as are in flight, and one
PLAIN, DRAFTS, PREFILL = "trip by trip", "drafts", "prefill alone"


class Way(NamedTuple):
    """A way to run the policy: its name, options, tokens of the prompt more, and trips."""

    name: str
    options: dict[str, Any]
    more: int = 0
    trips: int = TRIPS


class Found(NamedTuple):
    """Of a way, measured: seconds of a step, and how many steps an action is behind its picture."""

    way: str
    seconds: float
    behind: int

    @property
    def age_s(self) -> float:
        """Of the action in force, on average."""
        return (self.behind + 1.5) * self.seconds


def main() -> None:
    """Measure, print a table for every prompt, and draw rate against age."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, nargs="+", default=PROMPTS)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[2, 4, 7])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--width", type=int, default=Size.width)
    parser.add_argument("--quantise", default="", help="int8; int4, w4a16: to the nearest")
    parser.add_argument("--plot", type=Path, help="file for the figure: .svg or .png")
    chosen = parser.parse_args()
    size = Size(width=chosen.width)
    ways = [
        Way(PLAIN, {}),
        *(Way(f"{one} in flight", {"in_flight": one}) for one in chosen.in_flight),
        Way(DRAFTS, {"draft": "last"}),
        Way(PREFILL, {}, TRIPS, 0),
    ]
    print(f"{size.nbytes / 1e6:.0f} MB of matrices, {TRIPS + 1} tokens, {chosen.rounds} rounds")
    drawn: dict[int, list[Found]] = {}
    for prompt in chosen.prompts:
        found = list(measured(size, prompt, ways, chosen.rounds, chosen.quantise))
        show(prompt, found)
        drawn[prompt] = found
    terminal_plot(drawn)
    if chosen.plot:
        draw(drawn, chosen.plot)


def measured(
    size: Size, prompt: int, ways: Sequence[Way], rounds: int, quantise: str
) -> Iterator[Found]:
    """Every way, one step each in turn."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vlacut-")))
        policies: list[tuple[Policy, dict[str, np.ndarray]]] = []
        for number, way in enumerate(ways):
            program = Decoder(size, prompt + way.more, way.trips).program()
            path = compiled(program, folder / f"{number}.vlacut", way.options, quantise)
            policy = stack.enter_context(vlacut.connect(path, in_place=True))
            ids = np.random.default_rng(1).integers(0, size.words, (1, prompt + way.more))
            policies.append((policy, {"ids": ids}))
        seconds: list[list[float]] = [[] for _ in ways]
        for turn in range(WARM_UP + rounds):
            for spent, (policy, observed) in zip(seconds, policies, strict=True):
                start = time.perf_counter()
                policy.step(observed)
                if turn >= WARM_UP:
                    spent.append(time.perf_counter() - start)
        for way, spent, (policy, _) in zip(ways, seconds, policies, strict=True):
            yield Found(way.name, median(spent), policy.plan.warming)


def compiled(program: Program, path: Path, options: dict[str, Any], quantise: str) -> Path:
    """The bundle of a program, all on the edge."""
    machines: dict[str, Any] = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "10MB/s,20ms"}
    asked = {**options, "pin": ("*=edge",)}
    if quantise:
        asked["quantise"] = quantise
        passes = pipeline_for(Target(**machines, **asked))
        if "weights=int4" in passes:  # the weights are drawn, and GPTQ of so many takes too long
            asked = {"pipeline": passes.replace("quantise{", "quantise{method=rtn ", 1)}
    vlacut.compile(
        program,
        out=path,
        provider="cpu",
        golden=False,
        model_check=False,
        **machines,
        **asked,
    )
    return with_one_thread(path)


def show(prompt: int, found: Sequence[Found]) -> None:
    """A prompt's table."""
    by_name = {one.way: one for one in found}
    plain, prefill = by_name[PLAIN], by_name[PREFILL]
    table = Table(title=f"prompt of {prompt} tokens")
    for column in ("way", "ms a step", "x rate", "x latency", "age ms", "x age", "x prefill"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for one in found:
        latency = one.seconds * (one.behind + 1)
        table.add_row(
            one.way,
            f"{one.seconds * 1e3:.1f}",
            f"{plain.seconds / one.seconds:.2f}",
            f"{latency / plain.seconds:.2f}",
            f"{one.age_s * 1e3:.0f}",
            f"{one.age_s / plain.age_s:.2f}",
            f"{one.seconds / prefill.seconds:.2f}",
        )
    Console().print(table)


def terminal_plot(drawn: dict[int, list[Found]]) -> None:
    """Actions a second against the age of the action in force; a letter a prompt."""
    import plotext

    plotext.clear_figure()
    plotext.plot_size(78, 20)
    plotext.theme("clear")
    plotext.xlabel("age of the action in force, ms")
    plotext.ylabel("actions a second")
    for number, found in enumerate(drawn.values()):
        places, rates = points(found)
        plotext.scatter(places, rates, marker=chr(ord("a") + number))
    letters = (f"{chr(ord('a') + number)} {prompt}" for number, prompt in enumerate(drawn))
    print(f"prompts: {', '.join(letters)}\n{plotext.build()}")


def draw(drawn: dict[int, list[Found]], path: Path) -> None:
    """The same as a figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for prompt, found in drawn.items():
        (line,) = axes.plot(*points(found), "o", label=f"prompt of {prompt}")
        for one in found:
            if one.way != PREFILL:
                place = one.age_s * 1e3, 1 / one.seconds
                axes.annotate(one.way, place, fontsize="x-small", color=line.get_color())
    axes.set(xlabel="age of the action in force, ms", ylabel="actions a second", xscale="log")
    axes.legend(fontsize="small")
    figure.savefig(path)


def points(found: Sequence[Found]) -> tuple[list[float], list[float]]:
    """Age in milliseconds, and rate, of the ways to an action."""
    shown = [one for one in found if one.way != PREFILL]
    return [one.age_s * 1e3 for one in shown], [1 / one.seconds for one in shown]


if __name__ == "__main__":
    main()
