"""`train-predictor`: the LSTM predictor, from recorded bandwidths."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from vlacut.cli.arguments import seconds
from vlacut.cli.show.output import (
    check_place,
    console,
    json_option,
    print_json,
    rate,
    say_next,
    table,
)
from vlacut.cli.show.progress import progress_bar
from vlacut.hardware import read_recordings
from vlacut.runtime.network.lstm import write_weights
from vlacut.runtime.network.predictors import LSTM, PREDICTORS, make_predictor
from vlacut.simulation.scores import Score, samples_of, score
from vlacut.simulation.training import EPOCHS, train


@click.command("train-predictor")
@click.argument("traces", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The file.")
@click.option(
    "--interval",
    default="100ms",
    show_default=True,
    callback=seconds,
    help="Between samples: less than either side computes in a step.",
)
@click.option("--epochs", default=EPOCHS, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True)
@json_option
def train_command(
    traces: Path, out: Path, interval: float, epochs: int, seed: int, as_json: bool
) -> None:
    """Fit a predictor of the bandwidth to recorded ones.

    TRACES is a folder of recordings; the file is for compile --predictor.

    Each recording is used as a whole, either to fit or to judge; the table is of the latter.
    """
    check_place(out)
    with progress_bar() as progress:
        progress("read", 0, 1)
        recordings, coarse = samples_of(read_recordings(traces), interval)
        made = train(recordings, interval, seed=seed, epochs=epochs, progress=progress)
        write_weights(out, made.weights)
        kept = [piece for name in made.kept for piece in recordings[name]]
        scores: dict[str, Score] = {}
        for done, name in enumerate((*PREDICTORS, LSTM)):
            progress("judge", done, len(PREDICTORS) + 1)
            scores[name] = score(partial(make_predictor, name, out), kept)
    if as_json:
        split = {"fitted": made.fitted, "kept": made.kept, "coarse": coarse}
        judged = {name: vars(found) for name, found in scores.items()}
        print_json({"predictor": str(out), "interval_s": interval, **split, "scores": judged})
        return
    if coarse:
        click.echo(f"warning: {coarse} traces with longer steps were left out", err=True)
    title = f"{len(made.kept)} recordings, not fitted to; {len(made.fitted)} others were"
    console().print(score_table(title, scores))
    console().print(f"wrote {out}", markup=False)
    say_next(f"vlacut compile MODEL --predictor {out} ...")


def score_table(title: str, scores: dict[str, Score]) -> object:
    """A row per predictor."""
    columns = ("predictor", "MAE", "RMSE", "30 % over", "its 10 % quantile", "that 30 % over")
    rows = [
        (
            name,
            rate(found.mae),
            rate(found.rmse),
            f"{100 * found.over:.1f} %",
            f"{100 * found.covered:.1f} % covered",
            f"{100 * found.quantile_over:.1f} %",
        )
        for name, found in scores.items()
    ]
    return table(title, columns, rows)
