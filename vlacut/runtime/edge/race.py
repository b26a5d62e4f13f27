"""A race: two runners make the same action at once, and the first valid one wins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from queue import SimpleQueue
from typing import Generic, TypeVar, Union

Runner = TypeVar("Runner", bound=Hashable)
Result = TypeVar("Result")
_Run = Union[tuple[Callable[[], Result], "Future[Result]"], None]  # None: no more of them


class Race(Generic[Runner, Result]):
    """Every runner has a thread of its own.

    A runner that is still busy with an earlier race sits the next one out, so that threads do not
    pile up behind an engine that hangs. The threads are daemons: an engine that hangs does not keep
    the process from ending, as it would in a ThreadPoolExecutor.

    Args:
        runners: that may be entered, each known by this value.
    """

    def __init__(self, runners: tuple[Runner, ...]) -> None:
        self._runs: dict[Runner, SimpleQueue[_Run[Result]]] = {
            runner: SimpleQueue() for runner in runners
        }
        self._busy: dict[Runner, Future[Result]] = {}
        self._entered: dict[Runner, Future[Result]] = {}
        for runner, runs in self._runs.items():
            name = f"vlacut-{runner}"
            threading.Thread(target=_work, args=(runs,), name=name, daemon=True).start()

    def start(self) -> None:
        """Begin another race."""
        self._entered = {}

    def enter(self, runner: Runner, run: Callable[[], Result]) -> None:
        """Start a runner now, unless it is still busy."""
        if runner in self._busy and not self._busy[runner].done():
            return
        future: Future[Result] = Future()
        self._busy[runner] = self._entered[runner] = future
        self._runs[runner].put((run, future))

    def winner(self, until: float) -> tuple[Runner, Result] | None:
        """The first runner to succeed, and its result.

        None if none has by `until`, in seconds on the clock of `time.monotonic`, or all have
        failed.
        """
        while True:
            done = {runner: run for runner, run in self._entered.items() if run.done()}
            for runner, run in done.items():
                if run.exception() is None:
                    return runner, run.result()
            running = [run for run in self._entered.values() if not run.done()]
            left = until - time.monotonic()
            if not running or left <= 0:
                return None
            wait(running, left, FIRST_COMPLETED)

    def why_not(self) -> str:
        """What the runners that failed raised, on one line."""
        failed = (run.exception() for run in self._entered.values() if run.done())
        return "; ".join(str(error) for error in failed if error) or "the deadline passed"

    def close(self, seconds: float) -> bool:
        """Let the threads go; whether all had ended what they did within so many seconds."""
        for runs in self._runs.values():
            runs.put(None)
        return not wait(self._busy.values(), seconds).not_done


def _work(runs: SimpleQueue[_Run[Result]]) -> None:
    while (given := runs.get()) is not None:
        run, future = given
        try:
            future.set_result(run())
        except BaseException as error:  # whoever waits for the future raises it, or says it
            future.set_exception(error)
