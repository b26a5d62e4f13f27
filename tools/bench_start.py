"""How long commands take to start, beside Python with click alone, in turns.

    python tools/bench_start.py [--turns 15]

A turn starts every command once, in a process of its own. The figures are medians of the turns: of
the clock, and of the processor time, which says more on a machine that others use; and the ratio of
the latter to that of `python -c 'import click'` in the same run.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

from rich.console import Console

from vlacut.cli.show.output import table

PYTHON = (sys.executable, "-c", "import click")
VLACUT = (sys.executable, "-m", "vlacut")
COMMANDS = {
    "python -c 'import click'": PYTHON,
    "vlacut --help": (*VLACUT, "--help"),
    "vlacut devices": (*VLACUT, "devices"),
    "vlacut run --help": (*VLACUT, "run", "--help"),
    "vlacut plan --help": (*VLACUT, "plan", "--help"),
}


def main() -> None:
    """Measure, and print a row a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    turns = parser.parse_args().turns
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(turns):
        for name, words in COMMANDS.items():
            taken[name].append(_seconds(words))
    medians = {
        name: tuple(map(statistics.median, zip(*times, strict=True)))
        for name, times in taken.items()
    }
    base = medians[next(iter(COMMANDS))][1]
    rows = [
        (name, f"{clock:.3f}", f"{processor:.3f}", f"{processor / base:.1f}")
        for name, (clock, processor) in medians.items()
    ]
    columns = ("command", "s", "processor s", "ratio")
    Console().print(table(f"Starting, {turns} turns", columns, rows))


def _seconds(words: tuple[str, ...]) -> tuple[float, float]:
    """Of the clock, and of the processors."""
    began, before = time.perf_counter(), _children()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began, _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
