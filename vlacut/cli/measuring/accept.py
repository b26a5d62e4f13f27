"""`accept`: candidates against a reference, by paired episodes."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from vlacut.cli.show.output import console, json_option, print_json, say_next, table
from vlacut.errors import InputError
from vlacut.measurement.acceptance import CONFIDENCE, MOST_LOST, Accepted, judge, read_outcomes

_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command("accept")
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("candidates", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--most-lost",
    default=MOST_LOST,
    show_default=True,
    type=_SHARE,
    help="Share of episodes that REFERENCE succeeds in and a candidate may fail in.",
)
@click.option(
    "--confidence",
    default=CONFIDENCE,
    show_default=True,
    type=_SHARE,
    help="That no candidate is accepted which loses more.",
)
@json_option
def accept_command(
    reference: Path,
    candidates: tuple[Path, ...],
    most_lost: float,
    confidence: float,
    as_json: bool,
) -> None:
    """Accept a candidate that loses few of REFERENCE's episodes.

    The first of CANDIDATES that does is accepted: so name the cheapest first. Each file is a table
    of outcomes, with a line `episode,success` per episode. All files are of the same episodes: the
    same task, seed and start.

    Exit status 1 if none is accepted: then REFERENCE should run.
    """
    ran = read_outcomes(reference)
    others = [read_outcomes(path) for path in candidates]
    try:
        judged = judge(ran, others, most_lost, confidence)
    except InputError as error:
        raise InputError(
            f"{reference} against {', '.join(map(str, candidates))}: {error}"
        ) from None
    taken = next((at for at, one in enumerate(judged) if one.accepted), None)
    if as_json:
        rows = [
            {"file": str(path)} | asdict(one) for path, one in zip(candidates, judged, strict=True)
        ]
        print_json(
            {
                "reference": str(reference),
                "most_lost": most_lost,
                "confidence": confidence,
                "accepted": None if taken is None else str(candidates[taken]),
                "candidates": rows,
            }
        )
    else:
        _show(candidates, judged, taken, most_lost, confidence)
        runs = reference if taken is None else candidates[taken]
        say_next(f"vlacut serve BUNDLE, that of {runs.stem}")
    if taken is None:
        sys.exit(1)


def _show(
    candidates: tuple[Path, ...],
    judged: list[Accepted],
    taken: int | None,
    most_lost: float,
    confidence: float,
) -> None:
    out = console()
    rows = [
        (
            path.stem,
            f"{one.candidate / one.pairs:.1%}",
            str(one.lost),
            str(one.gained),
            f"{one.bound:.1%}",
            f"{one.worse_p:.3g}",
            "accepted" if one.accepted else "no",
        )
        for path, one in zip(candidates, judged, strict=True)
    ]
    first = judged[0]
    title = f"{first.pairs} pairs; the reference succeeds in {first.reference / first.pairs:.1%}"
    columns = ("candidate", "success", "lost", "gained", "lost at most", "worse by p", "")
    out.print(table(title, columns, rows, left=1))
    if taken is not None:
        out.print(
            f"\n{candidates[taken].stem} is accepted: it loses {judged[taken].bound:.1%} of the "
            f"episodes at most, with a confidence of {confidence:.0%} over all candidates"
        )
        return
    out.print(f"\nno candidate is accepted: none is shown to lose {most_lost:.1%} at most")
    if first.needed > first.pairs:
        out.print(f"{first.pairs} pairs are too few: it takes {first.needed} without any loss")
