"""What a reproduction is made of: tables of a paper's figures beside ours."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from vlacut.cli.page.charts import Chart


class Kind(str, Enum):
    """What kind of figure ours is."""

    COUNTED = "counted"  # bytes of weights, by name
    FITTED = "fitted"  # the device's figures were fitted to it: no prediction
    PRICED = "priced"  # by the model of the devices and the link
    SIMULATED = "simulated"  # steps by that model over bandwidths that change
    MEASURED = "measured here"
    PLAYED = "closed loop"  # episodes of a small policy in a simulated world
    MISSING = "not had"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Row:
    """A figure of the paper beside ours.

    Attributes:
        what: it is.
        paper, ours: with their units; empty where there is none.
        kind: of ours.
    """

    what: str
    paper: str
    ours: str
    kind: Kind


@dataclass(frozen=True)
class Table:
    """A table or figure of a paper.

    Attributes:
        paper: its name.
        number: as the paper counts: `table II`, `figure 3`.
        title: what it shows.
        source: where the paper's figures were read.
        rows: of it.
        note: how ours come about, where ours are worse, or why there are none.
        chart: as a picture, with the looks and names of what it draws.
        seconds, megabytes: what making it took, and the most memory of the process until then.
    """

    paper: str
    number: str
    title: str
    source: str
    rows: Sequence[Row] = ()
    note: str = ""
    chart: Chart | None = None
    legend: Sequence[tuple[str, str]] = ()
    seconds: float = 0.0
    megabytes: float = 0.0


Make = Callable[[], Table]


def made(make: Make) -> Table:
    """A table, with what making it took."""
    start = time.perf_counter()
    table = make()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return replace(table, seconds=time.perf_counter() - start, megabytes=most)


def missing(paper: str, number: str, title: str, source: str, why: str, *rows: Row) -> Make:
    """A table that cannot be had, with the paper's figures and the reason."""
    return lambda: Table(paper, number, title, source, rows, why)


def ms(seconds: float) -> str:
    """Milliseconds with one decimal, as the papers print them."""
    return f"{seconds * 1e3:.1f} ms"
