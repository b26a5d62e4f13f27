"""Runs the cells of a report in processes, and keeps what comes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from vlacut.errors import Progress, unwatched

from .cells import Cell, Stage
from .outcomes import Outcome
from .store import Store

_stage: Stage | None = None  # of a process


def _run(asked: tuple[Cell, int]) -> Outcome:
    global _stage
    if _stage is None:
        _stage = Stage()
    return _stage.run(*asked)


def run_all(
    cells: Iterable[Cell],
    count: int,
    store: Store,
    processes: int = 2,
    progress: Progress = unwatched,
) -> None:
    """So many episodes of every cell, less those that are there already.

    All cells' first episodes come before any cell's last, so that a report that was stopped has
    something of everything.
    """
    asked = [(cell, seed) for cell in dict.fromkeys(cells) for seed in store.missing(cell, count)]
    asked.sort(key=lambda one: one[1])
    if processes <= 1:
        _keep(asked, map(_run, asked), store, progress)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        _keep(asked, pool.map(_run, asked, chunksize=4), store, progress)


def _keep(
    asked: Sequence[tuple[Cell, int]],
    made: Iterable[Outcome],
    store: Store,
    progress: Progress,
) -> None:
    for done, ((cell, _), outcome) in enumerate(zip(asked, made, strict=True)):
        store.add(cell, outcome)
        progress("episodes", done + 1, len(asked))
