r"""What deciding gains: selectors on recorded bandwidths, full-size models, RoboECC's cut and
pools.

    for model in openvla cogact; do for pool in block portfolio:14GB; do
    vlacut compile $model --edge jetson-agx-orin --cloud a100 --link 10MB/s,20ms \
        --cloud-budget 12.1GiB --pool $pool --backend emulated -o $model-${pool%%:*}.vlacut
    done; done
    python tools/selector_gain.py TRACES *.vlacut [--every 4] [--knows frames]

Mean milliseconds a step, steps back to back, over every other recording of a folder, and of each of
its subfolders; the ones between are RoboECC's history, on which its thresholds are found. `alone`
is the plan's cut without adjustment, `fixed` the best variant without switching. The clairvoyant
knows the trace. `in 1 %` is the share of what argmin's steps took longer than the quickest variant
would have, from the same start, in the hundredth of the steps that lost most: those that an outage
befell. Single recordings in which argmin is above the thresholds are named. The exit status is 1 if
it is so in a folder, or argmin more than 5 % above the clairvoyant over all of them. RoboECC
reports 392.7 ms without its adjustment and 354.4 with it (table IV: OpenVLA, Orin and A100).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vlacut.bundle.reading import read_bundle
from vlacut.cli.show.output import console, milliseconds, table
from vlacut.cli.show.progress import progress_bar
from vlacut.hardware import Trace, read_recordings
from vlacut.plans.plan import Plan
from vlacut.simulation import (
    FRAMES,
    LINK,
    Comparison,
    Outcome,
    Recording,
    Row,
    network_of,
    walks_of,
)

SELECTORS = ("argmin", "quantile", "thresholds")
MOST_HISTORY = 24
PAPER = 392.7 / 354.4
LEAST = 1e-9  # below it a share is rounding


def main() -> None:
    """Print a table per bundle."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("traces", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--predictor", default="ewma")
    parser.add_argument("--every", type=int, default=1, help="of the recordings, one in so many")
    parser.add_argument("--knows", choices=[LINK, FRAMES], default=LINK)
    parser.add_argument("--interval", type=float, default=0.1, help="seconds between samples")
    asked = parser.parse_args()
    tested, history = split(asked.traces, asked.every)
    failed = False
    for path in asked.bundles:
        bundle = read_bundle(path)
        names = [variant.name for variant in bundle.plan.variants]
        race = Comparison(
            bundle.plan,
            tested,
            bundle.plan.link,
            knows=asked.knows,
            interval=asked.interval if asked.knows == LINK else None,
            model=bundle.predictor_path,
            history=history,
        )
        rows = run(race, names, asked.predictor)
        failed |= report(path.stem, bundle.plan, tested, rows, asked.traces)
    sys.exit(1 if failed else 0)


def split(folder: Path, every: int) -> tuple[list[Recording], list[Recording]]:
    """Recordings to test on, and those between them, at most so many."""
    found = list(read_recordings(folder).items())[::every]
    tested = [Recording(name, one) for name, pieces in found[::2] for one in pieces]
    others = [Recording(name, max(pieces, key=length)) for name, pieces in found[1::2]]
    picked = np.linspace(0, len(others) - 1, min(MOST_HISTORY, len(others))).round().astype(int)
    return [one for one in tested if max(one.trace.rates) > 0], [others[i] for i in picked]


def length(trace: Trace) -> float:
    """Seconds."""
    return sum(trace.seconds)


def run(race: Comparison, names: Sequence[str], predictor: str) -> dict[str, Row]:
    """Rows by selector."""
    with progress_bar() as progress:
        rows = race.run([*SELECTORS, *names], [predictor], progress)
    return {row.selector: row for row in rows}


def report(
    title: str, plan: Plan, tested: Sequence[Recording], rows: dict[str, Row], folder: Path
) -> bool:
    """Print means by subfolder; whether something is not as it should be."""
    names = [variant.name for variant in plan.variants]
    groups: dict[str, list[int]] = {folder.name: list(range(len(tested)))}
    for index, recording in enumerate(tested):
        groups.setdefault(recording.name.partition("/")[0], []).append(index)
    shares = [above(rows, [i]) for i in range(len(tested))]
    pairs = zip(tested, shares, strict=True)
    worse = [f"{one.name} {share:+.1%}" for one, share in pairs if share > LEAST]
    lost = [losses(plan, one, rows["argmin"].outcomes[i]) for i, one in enumerate(tested)]
    lines, failed = [], False
    for group, members in groups.items():
        mean = {
            name: float(np.concatenate([row.outcomes[i].latencies for i in members]).mean())
            for name, row in rows.items()
        }
        fixed = min(names, key=mean.__getitem__)
        over = mean["argmin"] / mean["clairvoyant"] - 1
        failed |= above(rows, members) > LEAST or (group == folder.name and over > 0.05)
        shown = [mean[name] for name in ("clairvoyant", *SELECTORS)]
        lines.append(
            (
                group,
                *map(milliseconds, [*shown, mean[fixed], mean[names[0]]]),
                f"{over:+.1%}",
                f"{tail(np.concatenate([lost[i] for i in members])):.0%}",
                f"{mean[names[0]] / mean['argmin']:.3f}",
                fixed,
            )
        )
    columns = ("traces", "clairvoyant", *SELECTORS, "fixed", "alone", "argmin over clairvoyant")
    out = console()
    out.print(table(f"\n{title}", (*columns, "in 1 %", "alone / argmin", "fixed is"), lines))
    out.print(f"Argmin is above the thresholds in {len(worse)} of {len(tested)} recordings")
    out.print(*worse, sep="; ")
    out.print(f"RoboECC's table IV: without adjustment / with it {PAPER:.3f}")
    return failed


def above(rows: dict[str, Row], members: Sequence[int]) -> float:
    """Argmin's mean over the thresholds' in some recordings, less one."""
    argmin, thresholds = (
        float(np.concatenate([rows[name].outcomes[i].latencies for i in members]).mean())
        for name in ("argmin", "thresholds")
    )
    return argmin / thresholds - 1


def losses(plan: Plan, recording: Recording, outcome: Outcome) -> np.ndarray:
    """Seconds that each step took longer than by the variant that would have ended first."""
    walks, network = walks_of(plan), network_of(plan.link, recording.trace)
    first = [min(walk.end(start, network) for walk in walks) for start in outcome.starts]
    lost: np.ndarray = outcome.starts + outcome.latencies - np.array(first)
    return lost


def tail(lost: np.ndarray) -> float:
    """The share of it that the hundredth of the steps have that lost most."""
    worst = np.sort(lost)[-max(1, lost.size // 100) :]
    return float(worst.sum() / max(lost.sum(), 1e-9))


if __name__ == "__main__":
    main()
