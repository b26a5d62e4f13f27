"""`twin`: both machines of a bundle and the link between them, on this one."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np

from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import read_bundle
from vlacut.cli import completion
from vlacut.cli.arguments import BUNDLE, seconds
from vlacut.cli.deploying.logs import log_to_stderr
from vlacut.cli.deploying.rate import loop_arguments, loop_options
from vlacut.cli.show.loops import loop_json, show_loop
from vlacut.cli.show.output import console, json_option, milliseconds, print_json, say_next
from vlacut.cli.show.progress import progress_bar
from vlacut.cli.show.steps import run_json, show_steps
from vlacut.control.recording.episodes import read_episodes
from vlacut.emulation import shape_of
from vlacut.emulation.twin import TwinStep, run_twin, run_twin_loop
from vlacut.errors import InputError
from vlacut.hardware import parse_link
from vlacut.hardware.trace import Trace, read_trace
from vlacut.plans.plan import CHOSEN
from vlacut.runtime.network.predictors import LSTM, NAMES
from vlacut.runtime.network.selectors import SELECTORS
from vlacut.simulation import FRAMES, Comparison, Recording, Row

_OUTAGE = re.compile(r"(\d+(?:\.\d+)?)s,(\d+(?:\.\d+)?)s")


class _Outage(click.ParamType[tuple[float, float]]):
    """`START,LENGTH` in seconds."""

    name = "start,length"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Parse, or fail with an example."""
        match = _OUTAGE.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r}: write START,LENGTH, e.g. 10s,2.5s", param, ctx)
        return float(match.group(1)), float(match.group(2))


@click.command("twin")
@BUNDLE
@click.option(
    "--trace", type=click.Path(path_type=Path), help="Recorded bandwidths of the uplink: a file."
)
@click.option("--steps", type=click.IntRange(1), help="Until the trace ends, without it.")
@click.option(
    "--selector",
    "--policy",  # its name until 0.2
    "selector",
    shell_complete=completion.selectors,
    default=CHOSEN,
    show_default=True,
    help=f"How the variant is chosen: {', '.join(SELECTORS)}, or the name of one.",
)
@click.option(
    "--predictor",
    default="",
    shell_complete=completion.predictors,
    help=f"{', '.join(NAMES)}; the bundle's, or ewma if it has none.",
)
@click.option(
    "--link", default="", help="Round trip and rates, the trace's aside; the plan's if not."
)
@click.option("--period", callback=seconds, help="Start a step every 100ms, if it can.")
@click.option("--jitter", callback=seconds, help="A burst arrives later by up to 5ms.")
@click.option(
    "--loss", default=0.0, type=click.FloatRange(0, 1, max_open=True), help="Of segments."
)
@click.option(
    "--outage", "outages", multiple=True, type=_Outage(), help="10s,2s: from, for so long."
)
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait for the cloud.")
@loop_options
@click.option(
    "--episodes", type=click.Path(path_type=Path), help="With --rate: whose joints are sensed."
)
@json_option
def twin_command(
    path: Path,
    trace: Path | None,
    steps: int | None,
    selector: str,
    predictor: str,
    link: str,
    period: float | None,
    jitter: float | None,
    loss: float,
    outages: tuple[tuple[float, float], ...],
    timeout: float,
    rate: float | None,
    episodes: Path | None,
    as_json: bool,
    **loop: Any,
) -> None:
    """Run both sides here, in real time, over an emulated link.

    Parts take the times that the plan predicts, and compute nothing: no weights and no such
    machines are needed. The runtime and its sockets are the real ones. With --rate it is a control
    loop, and --steps are its ticks.
    """
    log_to_stderr("twin", as_json=False)
    if trace is None and steps is None:
        raise InputError("without a --trace that ends, say for how many --steps")
    bundle = read_bundle(path)
    over = parse_link(link) if link else bundle.plan.link
    rates = read_trace(trace) if trace else None
    shape = shape_of(over, rates, jitter_s=jitter or 0.0, loss=loss, outages=outages)
    lasts = None if rates is None or steps else sum(rates.seconds)
    if rate is not None:
        ticks = steps or max(1, round(rate * (lasts or 0.0)))
        with progress_bar() as progress:
            ran = run_twin_loop(
                path,
                shape,
                ticks,
                rate=rate,
                chunk=loop.pop("chunk") or next(iter(bundle.plan.outputs)),
                loop=loop_arguments(loop),
                episodes=read_episodes(episodes) if episodes else None,
                progress=progress,
                selector=selector,
                predictor=predictor,
                link=link,
                timeout=timeout,
            )
        if as_json:
            print_json({"bundle": str(path), "loop": loop_json(ran)})
        else:
            show_loop(ran)
        return
    with progress_bar() as progress:
        made = run_twin(
            path,
            shape,
            steps=steps,
            seconds=lasts,
            period=period,
            progress=progress,
            selector=selector,
            predictor=predictor,
            link=link,
            timeout=timeout,
        )
    race = Comparison(
        bundle.plan,
        [Recording("", rates or Trace((over.wire_up,), (1.0,)))],
        over,
        period,
        knows=FRAMES,
        model=bundle.predictor_path,
        seconds=lasts,
        steps=steps,
    )
    plain = not jitter and not loss and not outages  # the simulation knows none of them
    rows = race.run([selector], [predictor or _default_predictor(bundle)]) if plain else ()
    _report(bundle, made, rows[1] if plain else None, as_json)


def _default_predictor(bundle: Bundle) -> str:
    return LSTM if bundle.predictor_path else "ewma"


def _report(bundle: Bundle, made: list[TwinStep], alike: Row | None, as_json: bool) -> None:
    reports = [step.report for step in made]
    latencies = np.array([report.latency_s for report in reports])
    mean_s, p95_s = float(latencies.mean()), float(np.quantile(latencies, 0.95))
    if as_json:
        shown = run_json(reports, {}, None)
        for step, entry in zip(made, shown["steps"], strict=True):
            entry["start_s"] = step.start_s
        simulated = alike and {
            "mean_ms": alike.mean_s * 1e3,
            "p95_ms": alike.quantile_s(0.95) * 1e3,
            "steps": len(alike.latencies),
        }
        whole = {"mean_ms": mean_s * 1e3, "p95_ms": p95_s * 1e3, "simulated": simulated}
        print_json({"bundle": str(bundle.root), **whole, "steps": shown["steps"]})
        return
    show_steps(bundle.plan, reports, None)
    counts = Counter(report.variant for report in reports)
    ran = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    out = console()
    out.print(f"\nvariants: {ran}")
    out.print(f"mean {milliseconds(mean_s)} ms, p95 {milliseconds(p95_s)} ms")
    if alike:
        p95 = milliseconds(alike.quantile_s(0.95))
        out.print(f"the simulation says: mean {milliseconds(alike.mean_s)} ms, p95 {p95} ms")
    say_next(f"vlacut serve {bundle.root}", f"vlacut run {bundle.root}")
