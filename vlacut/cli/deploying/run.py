"""`run`: the edge side of a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from vlacut.api import connect
from vlacut.bundle.staging import write_file
from vlacut.cli import completion
from vlacut.cli.arguments import BUNDLE, IN_PLACE, INSECURE, PROVIDER, TLS, TRUSTED, seconds
from vlacut.cli.deploying.endpoint import endpoint_options, serve_endpoint
from vlacut.cli.deploying.logs import log_to_stderr
from vlacut.cli.deploying.rate import LoopRun, loop_options, run_loop
from vlacut.cli.show.loops import loop_json, show_loop
from vlacut.cli.show.noise import noise_line, without_noise
from vlacut.cli.show.output import check_place, console, json_option, print_json, say_next
from vlacut.cli.show.progress import progress_bar
from vlacut.cli.show.steps import run_json, show_steps
from vlacut.errors import InputError, ObservationError
from vlacut.integrations.endpoint import read_endpoint
from vlacut.plans.plan import CHOSEN, Plan
from vlacut.runtime.edge.recorded import record_steps, run_bytes
from vlacut.runtime.edge.report import StepReport
from vlacut.runtime.edge.timeline import about_bundle, trace_json
from vlacut.runtime.network.predictors import NAMES
from vlacut.runtime.network.selectors import SELECTORS
from vlacut.tensor.npz import npz_bytes
from vlacut.tensor.numerics import largest_difference
from vlacut.tensor.observations import read_observation


@click.command("run")
@BUNDLE
@click.option(
    "--cloud",
    default="",
    help="HOST:PORT of vlacut serve, or several: A,B; not needed if all-edge.",
)
@TLS
@INSECURE
@TRUSTED
@IN_PLACE
@PROVIDER
@click.option(
    "--input",
    "observation",
    type=click.Path(path_type=Path),
    help="An .npz with the observation; the golden one without it.",
)
@click.option("--steps", default=1, show_default=True, type=click.IntRange(1))
@click.option(
    "--reset-every", type=click.IntRange(1), help="Steps of an episode; one without end if not."
)
@click.option("--deadline", callback=seconds, help="A step returns by then, e.g. 100ms.")
@click.option("--hedge", is_flag=True, help="Meet it with the edge alone, beside the cloud.")
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
    "--history",
    type=click.Path(path_type=Path),
    help="For --selector thresholds: recorded bandwidths, a file or a folder.",
)
@click.option("--link", default="", help="Taken for the network at first; the plan's if not given.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the last action: .npz.")
@click.option(
    "--timeline", type=click.Path(path_type=Path), help="Write the steps as a trace for Perfetto."
)
@click.option("--allow-nan", is_flag=True, help="Take observations that hold a NaN.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Of the noise that --input lacks, 0 if not given; with it, of all noise.",
)
@click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait for the cloud.")
@loop_options
@endpoint_options
@json_option
def run_command(
    path: Path,
    cloud: str,
    tls: Path | None,
    insecure: bool,
    trusted: Path | None,
    in_place: bool,
    provider: str,
    observation: Path | None,
    steps: int,
    reset_every: int | None,
    deadline: float | None,
    hedge: bool,
    selector: str,
    predictor: str,
    history: Path | None,
    link: str,
    output: Path | None,
    timeline: Path | None,
    timeout: float,
    allow_nan: bool,
    seed: int | None,
    rate: float | None,
    record: Path | None,
    wire: str | None,
    mapped: tuple[str, ...],
    metadata: Path | None,
    as_json: bool,
    **loop: Any,
) -> None:
    """Drive the edge side of a bundle; show where time went.

    With --rate it is a control loop: --steps are its ticks, and inferences run beside them. With
    --serve a client of openpi gives the observations, --input what no client sends, and --rate is
    the client's.
    """
    log_to_stderr("run", as_json=False)
    endpoint = read_endpoint(wire, mapped, metadata)
    if endpoint and (output or record or reset_every):
        raise InputError("--output, --record and --reset-every do not go with --serve")
    for file in filter(None, (timeline, output, record)):
        check_place(file)
    session = connect(
        path,
        cloud or None,
        timeout=timeout,
        deadline=deadline,
        hedge=hedge,
        tls=tls,
        insecure=insecure,
        trusted=trusted,
        selector=selector,
        predictor=predictor,
        history=history,
        link=link,
        allow_nan=allow_nan,
        seed=seed or 0,
        in_place=in_place,
        provider=provider,
    )
    if endpoint:
        with session:
            serve_endpoint(
                session,
                endpoint,
                fixed=read_observation(observation) if observation else {},
                chunk=loop["chunk"],
                rate=rate,
                insecure=insecure,
                timeline=timeline,
                as_json=as_json,
            )
        return
    bundle, drawn = session.bundle, ""
    reports: list[StepReport] = []
    looped = LoopRun()
    action: Mapping[str, np.ndarray] = {}
    first: Mapping[str, np.ndarray] = {}
    try:
        with session, progress_bar() as progress:
            golden = bundle.golden("observation") if bundle.has_golden else None
            observed = read_observation(observation) if observation else golden
            if observed is None:
                raise ObservationError(
                    "the bundle has no golden observation; give one with --input"
                )
            if seed is not None:
                observed = without_noise(bundle.plan, observed)
            drawn = noise_line(bundle.plan, observed, seed or 0)
            if rate is not None:
                run_loop(
                    session, observed, steps, looped, progress, rate=rate, record=record, **loop
                )
            for step in range(steps if rate is None else 0):
                if reset_every and step % reset_every == 0:
                    session.reset()
                action = session.step(observed)
                first = first or action
                reports.append(session.last)
                progress("run", step + 1, steps)
    finally:  # also of a run that failed or was interrupted, which one wants to see
        if timeline and looped.reports:
            write_file(timeline, looped.timeline(about_bundle(bundle.plan, bundle.digest)))
        elif timeline and reports:
            about = about_bundle(bundle.plan, bundle.digest)
            write_file(timeline, trace_json(reports, about=about))
        if record and reports:
            write_file(record, run_bytes(record_steps(bundle.plan, bundle.digest, reports)))
    if rate is not None:
        _show_loop(bundle.plan, looped, as_json, drawn)
        _say_next(path, None, timeline, as_json)
        return
    # With requests in flight the action of the golden step is of no observation.
    comparable = _same(observed, golden) and not bundle.plan.warming
    reference = bundle.golden("action") if comparable else None
    if output:
        write_file(output, npz_bytes(action))
    # Of a model that remembers, the first step of the episode was recorded on this observation.
    compared = first if bundle.plan.states else action
    error = None if reference is None else largest_difference(compared, reference)
    if as_json:
        print_json({**run_json(reports, action, error), "noise": drawn})
    else:
        show_steps(bundle.plan, reports, error)
        _say(drawn)
        _say_next(path, record, timeline, as_json)


def _say_next(path: Path, record: Path | None, timeline: Path | None, as_json: bool) -> None:
    if as_json:
        return
    if record or timeline:
        given = f"--run {record}" if record else f"--timeline {timeline}"
        say_next(f"vlacut report {path} {given} -o report.html")
    else:
        say_next(f"vlacut run {path} --timeline trace.json")


def _say(line: str) -> None:
    if line:
        console().print(line, markup=False)


def _show_loop(plan: Plan, looped: LoopRun, as_json: bool, drawn: str) -> None:
    if as_json:
        steps = run_json(looped.steps, {}, None)["steps"]
        print_json({"steps": steps, "loop": loop_json(looped.reports), "noise": drawn})
        return
    if looped.steps:
        show_steps(plan, looped.steps, None)
    show_loop(looped.reports)
    _say(drawn)


def _same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray] | None) -> bool:
    return (
        other is not None
        and one.keys() == other.keys()
        and all(np.array_equal(one[name], other[name]) for name in other)
    )
