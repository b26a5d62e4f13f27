"""`serve` and `run`: the two sides of a deployment."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from vlacut.api import connect, serve
from vlacut.cli.output import (
    console,
    json_option,
    milliseconds,
    print_json,
    progress_bar,
    size,
    table,
)
from vlacut.cli.report import why
from vlacut.errors import ObservationError
from vlacut.plan import CHOSEN, Plan
from vlacut.runtime.session import StepReport
from vlacut.verification import largest_difference

_BUNDLE = click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))


@click.command("serve")
@_BUNDLE
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=7000, show_default=True, help="0 takes a free one.")
@click.option("--insecure", is_flag=True, help="Listen off loopback, without authentication.")
@json_option
def serve_command(path: Path, host: str, port: int, insecure: bool, as_json: bool) -> None:
    """Serve the cloud side of a bundle until SIGTERM or Ctrl-C."""
    server = serve(path, host, port, insecure=insecure, on_event=_show_event)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.shutdown())
    address = f"{server.address[0]}:{server.address[1]}"
    if as_json:
        print_json({"address": address, "bundle": str(path)})
    else:
        console().print(f"serving {path} on {address}; Ctrl-C ends it")
    server.serve_forever()


def _show_event(kind: str, text: str) -> None:
    """A line on standard error."""
    click.echo(f"vlacut serve: {kind}: {text}", err=True)


@click.command("run")
@_BUNDLE
@click.option("--cloud", default="", help="HOST:PORT of vlacut serve; not needed if all-edge.")
@click.option(
    "--input",
    "observation",
    type=click.Path(path_type=Path),
    help="An .npz with the observation; the golden one without it.",
)
@click.option("--steps", default=1, show_default=True, type=click.IntRange(1))
@click.option("--variant", default=CHOSEN, show_default=True, help="A name, random or auto.")
@click.option("--link", default="", help="For --variant auto; the plan's if not given.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the last action: .npz.")
@click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait for the cloud.")
@json_option
def run_command(
    path: Path,
    cloud: str,
    observation: Path | None,
    steps: int,
    variant: str,
    link: str,
    output: Path | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Drive the edge side of a bundle, and show where the time went."""
    connected = connect(path, cloud or None, timeout=timeout, variant=variant, link=link)
    with connected as policy, progress_bar() as progress:
        golden = policy.bundle.golden("observation") if policy.bundle.has_golden else None
        observed = _load(observation) if observation else golden
        if observed is None:
            raise ObservationError("the bundle has no golden observation; give one with --input")
        reports = []
        for step in range(steps):
            action = policy.step(observed)
            reports.append(policy.last)
            progress("run", step + 1, steps)
        reference = policy.bundle.golden("action") if _same(observed, golden) else None
    if output:
        np.savez(output, **action)  # type: ignore[arg-type]  # numpy 2.4's stub
    error = None if reference is None else largest_difference(action, reference)
    if as_json:
        print_json(_run_json(reports, action, error))
    else:
        _show(policy.bundle.plan, reports, error)


def _same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray] | None) -> bool:
    return other is not None and all(np.array_equal(one[name], other[name]) for name in other)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError) as error:
        raise ObservationError(f"{path}: cannot be read as .npz: {error}") from error


def _run_json(
    reports: Sequence[StepReport], action: Mapping[str, np.ndarray], error: float | None
) -> dict[str, Any]:
    return {
        "steps": [
            {
                "step": report.step,
                "variant": report.variant,
                "latency_ms": report.latency_s * 1e3,
                "edge_ms": {name: spent * 1e3 for name, spent in report.edge_s.items()},
                "cloud_ms": {name: spent * 1e3 for name, spent in report.cloud_s.items()},
                "network_ms": report.network_s * 1e3,
                "bytes_up": report.bytes_up,
                "bytes_down": report.bytes_down,
                "frames": report.frames,
            }
            for report in reports
        ],
        "action": {name: array.tolist() for name, array in action.items()},
        "max_abs_error": error,
    }


def _show(plan: Plan, reports: Sequence[StepReport], error: float | None) -> None:
    out = console()
    rows = [
        (part.name, part.side.value, part.label, why(part), *_spread(times))
        for part in plan.parts
        if (times := [seconds for report in reports if (seconds := _spent(report, part.name))])
    ]
    up, down = reports[-1].bytes_up, reports[-1].bytes_down
    crossing = f"{size(up)} up, {size(down)} down, {reports[-1].frames} frames"
    rows.append(("network", "link", crossing, "", *_spread([item.network_s for item in reports])))
    rows.append(("step", "", "observation to action", "", *_spread([r.latency_s for r in reports])))
    planned = f"why there ({plan.edge}, {plan.cloud}, {plan.link})"
    columns = ("part", "side", "what", planned, "median ms", "p95 ms", "max ms")
    out.print(table(f"{len(reports)} control steps, measured here", columns, rows, left=4))
    if error is not None:
        out.print(f"\nlargest difference of the action from the uncut model's: {error:g}")


def _spent(report: StepReport, part: str) -> float:
    return report.edge_s.get(part, 0.0) + report.cloud_s.get(part, 0.0)


def _spread(seconds: Sequence[float]) -> tuple[str, str, str]:
    median, high = np.quantile(seconds, (0.5, 0.95))
    return milliseconds(float(median)), milliseconds(float(high)), milliseconds(max(seconds))
