"""`report`: a page of one bundle, or of two side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from vlacut.bundle.costs import MeasuredCosts, read_costs
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle
from vlacut.cli.page.figures import page_json
from vlacut.cli.page.rerun import write_rerun
from vlacut.cli.page.views import BundleView
from vlacut.cli.page.writing import write_page
from vlacut.cli.show.output import check_place, console, json_option, print_json, say_next, size
from vlacut.runtime.edge.recorded import Run, read_run
from vlacut.runtime.edge.timeline_run import read_timeline

_MOST = 2  # side by side


@click.command("report")
@click.argument("paths", metavar="BUNDLE...", nargs=-1, required=True,
                type=click.Path(path_type=Path))  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="A .html file.")
@click.option("--costs", type=click.Path(path_type=Path), help="Of vlacut profile.")
@click.option("--run", "recorded", type=click.Path(path_type=Path), help="Of vlacut run --record.")
@click.option("--timeline", type=click.Path(path_type=Path), help="Of vlacut run --timeline.")
@click.option("--rerun", type=click.Path(path_type=Path), help="Write --run for Rerun: .rrd.")
@json_option
def report_command(
    paths: Sequence[Path],
    out: Path,
    costs: Path | None,
    recorded: Path | None,
    timeline: Path | None,
    rerun: Path | None,
    as_json: bool,
) -> None:
    """Write a page that shows what a bundle's plan is, and why.

    It is one file, which a browser opens without a network. Of two bundles it shows one beside the
    other. What was measured, of the first one, stands beside what was predicted.
    """
    if len(paths) > _MOST:
        raise click.UsageError(f"{len(paths)} bundles: a page shows {_MOST} side by side")
    if recorded and timeline:
        raise click.UsageError("--run and --timeline are steps of one bundle: give one of them")
    if rerun and not (recorded or timeline):
        raise click.UsageError("--rerun writes a run for a viewer: give --run or --timeline")
    for file in filter(None, (out, rerun)):
        check_place(file)
    bundles = [open_bundle(path) for path in paths]
    measured = read_costs(costs) if costs else None
    run = read_run(recorded) if recorded else read_timeline(timeline) if timeline else None
    found = report(out, bundles, measured, run)
    if rerun and run:
        write_rerun(rerun, run)
    if as_json:
        print_json(found)
    else:
        console().print(f"wrote {out}, {size(found['bytes'])}: open it in a browser", markup=False)
        say_next(f"vlacut serve {paths[0]}", f"vlacut run {paths[0]} --record run.npz")


def report(
    out: Path, bundles: Sequence[Bundle], costs: MeasuredCosts | None = None, run: Run | None = None
) -> dict[str, Any]:
    """Write the page of some bundles; returns what `--json` prints of it.

    Args:
        out: the file.
        bundles: side by side.
        costs: measured by `vlacut profile`, of the first one.
        run: recorded, or of a timeline, of the first one.
    """
    measured = [(costs, run), *[(None, None)] * (len(bundles) - 1)]
    figures = [
        {"bundle": str(bundle.root), **page_json(bundle, *each)}
        for bundle, each in zip(bundles, measured, strict=True)
    ]
    views = [BundleView(one.root.name, data) for one, data in zip(bundles, figures, strict=True)]
    nbytes = write_page(out, views, {"bundles": figures})
    return {"report": str(out), "bytes": nbytes, "bundles": figures}
