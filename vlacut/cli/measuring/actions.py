"""`calibrate-actions`: tables of action errors, from episodes."""

from __future__ import annotations

from pathlib import Path

import click

from vlacut.bundle.reading import open_bundle
from vlacut.cli.arguments import BUNDLE
from vlacut.cli.show.output import check_place, console, json_option, print_json, say_next, table
from vlacut.cli.show.progress import progress_bar
from vlacut.control.recording.episodes import read_episodes, write_episodes
from vlacut.control.tables import ActionTables, write_tables
from vlacut.measurement.actions.calibrating import ALPHA, Worth, calibrate_actions
from vlacut.measurement.actions.chunks import with_fresh_chunks


@click.command("calibrate-actions")
@BUNDLE
@click.argument("episodes", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="File: .npz.")
@click.option(
    "--alpha",
    default=ALPHA,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of errors that may be beyond the tables; of 0 these are means.",
)
@click.option(
    "--eps",
    type=click.FloatRange(0, min_open=True),
    help="Error that is allowed, in shares of ranges; the policy's own variation, without it.",
)
@click.option(
    "--every", default=5, show_default=True, type=click.IntRange(1), help="Variants run on."
)
@click.option(
    "--fresh", type=click.Path(path_type=Path), help="Write the episodes with every tick's chunk."
)
@json_option
def actions_command(
    path: Path,
    episodes: Path,
    out: Path,
    alpha: float,
    eps: float | None,
    every: int,
    fresh: Path | None,
    as_json: bool,
) -> None:
    """Measure what age and variants do to actions, on EPISODES.

    EPISODES is a file of vlacut run --record. The uncut model runs on the observation of every
    tick, every variant on some of them. Both sides of the bundle run here.
    """
    for file in filter(None, (out, fresh)):
        check_place(file)
    bundle, recorded = open_bundle(path), read_episodes(episodes)
    with progress_bar() as progress:
        tables, worth, chunks = calibrate_actions(
            bundle, recorded, alpha=alpha, eps=eps, every=every, progress=progress
        )
    write_tables(out, tables)
    if fresh:
        write_episodes(fresh, with_fresh_chunks(recorded, chunks))
    if as_json:
        print_json(_json(tables, worth))
    else:
        _show(tables, worth)
        say_next(f"vlacut compile MODEL ... --actions {out}")


def _json(tables: ActionTables, worth: Worth) -> dict[str, object]:
    return {
        "ticks": worth.ticks,
        "episodes": worth.episodes,
        "redundant": worth.redundant,
        "auc": dict(worth.auc),
        "precision": dict(worth.precision),
        "eps": worth.eps,
        "rapid": list(tables.rapid),
        "edges": tables.edges.tolist(),
        "counts": tables.counts.tolist(),
        "e_variant": dict(zip(tables.variants, tables.e_variant.tolist(), strict=True)),
        "e_stale": tables.e_stale.tolist(),
    }


def _show(tables: ActionTables, worth: Worth) -> None:
    out = console()
    ages = [late for late in (1, 2, 4, 8, 16, 32) if late < len(tables.e_stale)]
    columns = ["bin", "ticks", *(f"{late * tables.period_s * 1e3:.0f} ms" for late in ages)]
    columns += tables.variants
    rows = [
        (
            str(bin_),
            str(tables.counts[bin_]),
            *(f"{tables.e_stale[late, bin_]:.4f}" for late in ages),
            *(f"{error:.2g}" for error in tables.e_variant[:, bin_]),
        )
        for bin_ in range(len(tables.eps))
    ]
    title = "error of a command by its age, and by variant, as a share of ranges"
    out.print(table(title, columns, rows, left=1))
    out.print(
        f"\n{worth.ticks} ticks of {worth.episodes} episodes; an error of {worth.eps:.4g} is "
        f"allowed, and playing on keeps it in {worth.redundant:.1%} of the ticks"
    )
    said = ", ".join(f"{name} {area:.3f}" for name, area in worth.auc.items())
    out.print(f"area under the curve for critical ticks, on held-out episodes: {said}")
