"""A trace, with the variant that ran under it: in the terminal, and as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.text import Text

from vlacut.plans.plan import Plan
from vlacut.simulation import Recording, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 98, 15
_MBIT = 1e6 / 8


def show_choices(out: Console, plan: Plan, recording: Recording, row: Row) -> None:
    """Print the trace's rate in Mbit/s, and a line under it with the letter of the variant of the
    moment.
    """
    import plotext

    times, rates = _rates(recording)
    plotext.clear_figure()
    plotext.plot_size(min(_WIDTH, out.width), _HEIGHT)
    plotext.theme("clear")
    plotext.ylabel("Mbit/s")
    plotext.xlim(0, times[-1])
    plotext.plot(times.tolist(), rates.tolist(), marker="dot")
    drawn = plotext.build()
    frame = Text.from_ansi(drawn).plain.splitlines()[0]  # the line below is as wide as it
    edge, width = frame.index("┌") + 1, frame.index("┐") - frame.index("┌") - 1
    letters = [chr(ord("a") + index) for index in range(len(plan.variants))]
    outcome = row.outcomes[0]
    at = np.linspace(0, times[-1], width, endpoint=False)
    ran = outcome.variants[np.maximum(np.searchsorted(outcome.starts, at, "right") - 1, 0)]
    line = " " * edge + "".join(letters[index] for index in ran)
    legend = "  ".join(
        f"{letter} {variant.name}" for letter, variant in zip(letters, plan.variants, strict=True)
    )
    out.print(f"\n{recording.name}, {row.selector} {row.predictor}: {legend}")
    out.print(Text.from_ansi(f"{drawn}\n{line}"))


def draw_choices(figure: Figure, plan: Plan, recording: Recording, row: Row) -> None:
    """Draw the trace's rate in Mbit/s, above the milliseconds of its steps, above the variant that
    they ran; over seconds.
    """
    times, rates = _rates(recording)
    outcome = row.outcomes[0]
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    top.plot(times, rates, drawstyle="steps-post", linewidth=0.8)
    top.set(title=f"{recording.name}, {row.selector} {row.predictor}", ylabel="Mbit/s")
    middle.plot(outcome.starts, outcome.latencies * 1e3, ".", markersize=2)
    middle.set(ylabel="ms per step", yscale="log")
    bottom.plot(outcome.starts, outcome.variants, drawstyle="steps-post")
    names = [variant.name for variant in plan.variants]
    bottom.set_yticks(range(len(names)), names)
    bottom.set(xlabel="seconds", xlim=(0, times[-1]), ylim=(-0.5, len(names) - 0.5))


def _rates(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Starts of the trace's intervals and its end, and the rate of each in Mbit/s."""
    times = np.concatenate([[0.0], np.cumsum(recording.trace.seconds)])
    rates = np.array([*recording.trace.rates, recording.trace.rates[-1]]) / _MBIT
    return times, rates
