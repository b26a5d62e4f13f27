"""How far a command is: a bar on standard error, and how long each stage took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.text import Text

from vlacut.errors import Progress


class Stages:
    """The stages of a command, and how long each took. Call it with (what, done, of).

    Args:
        show: is called with the same.

    Attributes:
        seconds: by what was done, up to the last call.
    """

    def __init__(self, show: Progress) -> None:
        self._show = show
        self._what = ""
        self._since = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        self.stop()
        self._what = what
        self._show(what, done, total)

    def stop(self) -> None:
        """Count the time up to now."""
        now = time.perf_counter()
        if self._what:
            self.seconds[self._what] = self.seconds.get(self._what, 0.0) + now - self._since
        self._since = now

    def __str__(self) -> str:
        shown = (f"{what} {seconds:.1f} s" for what, seconds in self.seconds.items())
        return f"took {sum(self.seconds.values()):.1f} s: {', '.join(shown)}"


@contextmanager
def progress_bar() -> Iterator[Stages]:
    """A progress bar on standard error, where that is a terminal."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _Left(),
    )
    # The file as it is now: it stays in sight while what a model says there is caught.
    console = Console(file=sys.stderr)
    # Told before it starts: of a bar that is switched off later its thread would go on for ever.
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("start", total=1)
        stages = Stages(lambda *stage: _show_stage(bar, task, *stage))
        yield stages
        stages.stop()


class _Left(TimeRemainingColumn):
    """The time left of the stages that are counted together; nothing where it is not known."""

    def render(self, task: Task) -> Text:
        """As rich writes it."""
        return Text() if task.time_remaining is None else Text("left ") + super().render(task)


def _show_stage(bar: Bar, task: TaskID, what: str, done: int, total: int) -> None:
    """Show a stage; one of another count begins anew, so that what is left is its own."""
    before = bar.tasks[0]
    if total != before.total or done < before.completed:
        bar.reset(task, description=what, completed=done, total=total)
    bar.update(task, description=what, completed=done, total=total)
