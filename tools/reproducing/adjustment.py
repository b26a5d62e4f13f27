"""RoboECC's network-aware adjustment: table IV and figure 7, over a network that changes.

The paper states neither. By default the bandwidth is made, from a seed: its logarithm walks between
those of 1 and 10 MB/s, the two of the paper's figure 3. `--traces` takes recordings in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from reproducing.machines import SOURCE
from reproducing.tables import Kind, Row, Table, ms
from vlacut import plan
from vlacut.cli.page.charts import Chart, line
from vlacut.cli.page.scales import Scale
from vlacut.hardware import Trace, read_recordings
from vlacut.plans.plan import Plan
from vlacut.runtime.network.predictors import make_predictor
from vlacut.runtime.network.thresholds import Experiment, changes_of, experiments
from vlacut.simulation import Comparison, Recording

PAPER = "RoboECC"
PREDICTOR = "ewma"
_BETWEEN, _INTERVAL_S, _SAMPLES, _SPREAD = (1e6, 10e6), 0.1, 6000, 0.05
_MOST = 24  # recordings of either kind


@cache
def planned() -> Plan:
    """OpenVLA on Orin and A100 with a pool of a block, as the paper has it."""
    return plan(
        "openvla",
        edge="jetson-agx-orin+eager",
        cloud="a100+eager",
        link="10MB/s,20ms",
        cloud_budget="12.1GiB",  # what the backbone weighs
        pool="block",
    ).plan


@cache
def networks(traces: Path | None) -> tuple[Sequence[Recording], Sequence[Recording]]:
    """Recordings to step over, and the history on which thresholds are found."""
    if traces is None:
        return [Recording("made", walk(0))], [Recording("made before", walk(1))]
    found = [
        Recording(name, piece)
        for name, pieces in read_recordings(traces).items()
        for piece in pieces
        if max(piece.rates) > 0
    ]
    return found[::2][:_MOST], found[1::2][:_MOST]


def walk(seed: int) -> Trace:
    """Ten minutes of a bandwidth whose logarithm walks between two bounds, reflected there."""
    low, high = np.log(_BETWEEN)
    steps = np.cumsum(np.random.default_rng(seed).normal(0, _SPREAD, _SAMPLES))
    turned = np.abs((steps + (high - low)) % (2 * (high - low)) - (high - low))
    rates = np.exp(low + turned)
    return Trace(tuple(rates.tolist()), (_INTERVAL_S,) * _SAMPLES)


def table_iv(traces: Path | None = None) -> Table:
    """Ablation: the edge alone, a cut, a cut that moves; over recordings if a folder is given."""
    made, (tested, history) = planned(), networks(traces)
    first, names = made.variants[0], [one.name for one in made.variants]
    race = Comparison(made, tested, made.link, interval=_INTERVAL_S, history=history)
    found = race.run(["argmin", "thresholds", *names], [PREDICTOR])
    mean = {row.selector: row.mean_s for row in found}
    alone = next(row.price.total_s for row in made.strategies if row.name == "all-edge")
    fixed, moved = mean[first.name], mean["thresholds"]
    others = {
        "adjusted by the plan's price (argmin)": "argmin",
        "adjusted by who knows the network": "clairvoyant",
        "the pool's best cut, never moved": min(names, key=mean.__getitem__),
    }
    cells = [
        Row("edge only", "1119.4 ms", ms(alone), Kind.PRICED),
        Row("co-aware segmentation, cloud", "135.9 ms", ms(first.price.cloud_s), Kind.PRICED),
        Row("co-aware segmentation, edge", "99.8 ms", ms(first.price.edge_s), Kind.PRICED),
        Row("co-aware segmentation, total", "392.7 ms", ms(fixed), Kind.SIMULATED),
        Row("network-aware adjustment, total", "354.4 ms", ms(moved), Kind.SIMULATED),
        Row("without it / with it", "1.108 x", f"{fixed / moved:.3f} x", Kind.SIMULATED),
        *(
            Row(what, "", f"{ms(mean[name])}, {fixed / mean[name]:.3f} x",
                Kind.SIMULATED)
            for what, name in others.items()
        ),
    ]  # fmt: skip
    return Table(PAPER, "table IV", "ablation", SOURCE, cells, f"{_which(traces)} {_POOL}")


_POOL = (
    "Where the pool's best cut is as quick without moving, what is gained is the pool's room in "
    "the cloud, on top of the budget, not the adjustment's. What `--pool portfolio:14GB` gains is "
    "in `vlacut/simulation/README.md`."
)


def _which(traces: Path | None) -> str:
    if traces is not None:
        tested, history = networks(traces)
        return f"Over {len(tested)} recordings, thresholds found on {len(history)} others."
    return (
        "The paper says nothing of its network. Ours is made, ten minutes: the bandwidth's "
        "logarithm walks between those of 1 and 10 MB/s, and thresholds are found on another walk; "
        "`--traces FOLDER` takes recordings instead."
    )


def _change(bytes_s: float) -> str:
    """A change of bandwidth, for people."""
    return "any change" if abs(bytes_s) < 1 else f"{bytes_s / 1e6:.3g} MB/s"


def figure_7(traces: Path | None = None) -> Table:
    """How the two thresholds are found."""
    history = [one.trace.sampled(_INTERVAL_S) for one in networks(traces)[1]]
    changes = changes_of(history, lambda: make_predictor(PREDICTOR, None))
    lows, highs = experiments(planned(), changes)
    low, high = (min(tried, key=lambda one: one.mean_s) for tried in (lows, highs))
    found = (
        ("T_low", _change(low.tried.low)),
        ("T_high", _change(high.tried.high)),
        ("a step without moves", ms(lows[0].mean_s)),
        ("a step with T_low", ms(low.mean_s)),
        ("a step with T_high, too", ms(high.mean_s)),
    )
    rows = [Row(what, "no number", ours, Kind.SIMULATED) for what, ours in found]
    note = "The procedure of the paper's section V-C2; the text prints no number of the figure."
    legend = [("look1", "T_low tried"), ("look2", "T_high tried")]
    chart = _chart(lows[1:], sorted(highs, key=lambda one: one.tried.high))
    note = f"{note} {_which(traces)}"
    return Table(PAPER, "figure 7", "thresholds", SOURCE, rows, note, chart, legend)


OVER_NETWORK = (table_iv, figure_7)


def _chart(lows: Sequence[Experiment], highs: Sequence[Experiment]) -> Chart:
    at = [one.tried.low / 1e6 for one in lows], [one.tried.high / 1e6 for one in highs]
    means = [[one.mean_s * 1e3 for one in tried] for tried in (lows, highs)]
    every, seen = [*at[0], *at[1]], [*means[0], *means[1]]
    room = 0.05 * (max(seen) - min(seen)) or 1.0
    x, y = Scale(min(every), max(every)), Scale(min(seen) - room, max(seen) + room)
    return Chart(
        title="Mean price of a step against the threshold that is tried",
        x="threshold, MB/s",
        y="ms",
        x_ticks=x.ticks(lambda value: f"{value:g}"),
        y_ticks=y.ticks(lambda value: f"{value:g}"),
        lines=(
            line("T_low tried", "look1", x, at[0], y, means[0]),
            line("T_high tried", "look2", x, at[1], y, means[1]),
        ),
    )
