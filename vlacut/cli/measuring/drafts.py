"""`calibrate-draft`: how many drafts of each source are right, from episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vlacut.bundle.draft_table import DraftTable, write_draft_table
from vlacut.bundle.reading import open_bundle
from vlacut.cli.arguments import BUNDLE
from vlacut.cli.show.output import check_place, console, json_option, print_json, say_next, table
from vlacut.cli.show.progress import progress_bar
from vlacut.control.recording.episodes import read_episodes
from vlacut.measurement.actions.drafts import SOURCES, calibrate_drafts


@click.command("calibrate-draft")
@BUNDLE
@click.argument("episodes", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="File: .json.")
@click.option(
    "--sources",
    default=",".join(SOURCES),
    show_default=True,
    help="With commas: last, velocity, kalman:RATIO, chunk:SHIFT:WIDTH.",
)
@json_option
def drafts_command(path: Path, episodes: Path, out: Path, sources: str, as_json: bool) -> None:
    """Measure how many drafts are right on EPISODES.

    EPISODES is a file of vlacut run --rate HZ --record; BUNDLE was compiled with --draft last. The
    uncut model runs on every observation of which an inference was made, and each source is held to
    what it says. The file prices drafts: vlacut compile MODEL ... --draft auto --draft-table FILE.
    """
    check_place(out)
    bundle, recorded = open_bundle(path), read_episodes(episodes)
    asked = [one.strip() for one in sources.split(",")]
    with progress_bar() as progress:
        made = calibrate_drafts(bundle, recorded, asked, progress)
    write_draft_table(out, made)
    if as_json:
        print_json(_json(made))
    else:
        _show(made)
        say_next(f"vlacut compile MODEL ... --draft auto --draft-table {out}")


def _json(made: DraftTable) -> dict[str, Any]:
    return {
        "trips": made.trips,
        "steps": made.steps,
        "episodes": made.episodes,
        "drafts": [
            {"draft": source, "right": made.right(source), "counts": list(counts)}
            for source, counts in made.counts.items()
        ],
    }


def _show(made: DraftTable) -> None:
    out = console()
    rows = [
        (
            source,
            f"{made.right(source):.2f} of {made.trips}",
            f"{1 - counts[0] / made.steps:.1%}",
            f"{counts[-1] / made.steps:.1%}",
        )
        for source, counts in made.counts.items()
    ]
    columns = ("draft", "right", "the first", "all")
    out.print(table("drafts that are right, from the first one on", columns, rows, left=1))
    out.print(f"\n{made.steps} steps of {made.episodes} episodes")
