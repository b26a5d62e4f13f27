"""A race: two ways to the same action at once, of which the first valid one wins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from queue import SimpleQueue
from typing import Generic, TypeVar, Union

Way = TypeVar("Way", bound=Hashable)
Result = TypeVar("Result")
_Run = Union[tuple[Callable[[], Result], "Future[Result]"], None]  # None: no more of them


class Race(Generic[Way, Result]):
    """Runs each way on a thread of its own. A way that is still busy with an earlier race sits the
    next one out, so that threads do not pile up behind an engine that hangs. They are daemons: an
    engine that hangs does not keep the process from ending, as it would in a ThreadPoolExecutor.
    """

    def __init__(self, ways: tuple[Way, ...]) -> None:
        self._runs: dict[Way, SimpleQueue[_Run[Result]]] = {way: SimpleQueue() for way in ways}
        self._busy: dict[Way, Future[Result]] = {}
        self._entered: dict[Way, Future[Result]] = {}
        for way, runs in self._runs.items():
            name = f"vlacut-{way}"
            threading.Thread(target=_work, args=(runs,), name=name, daemon=True).start()

    def start(self) -> None:
        """Begin another race."""
        self._entered = {}

    def enter(self, way: Way, run: Callable[[], Result]) -> None:
        """Start a way now, unless it is still busy."""
        if way in self._busy and not self._busy[way].done():
            return
        future: Future[Result] = Future()
        self._busy[way] = self._entered[way] = future
        self._runs[way].put((run, future))

    def winner(self, until: float) -> tuple[Way, Result] | None:
        """The first way to succeed; None if none has by `until` (monotonic), or all have failed."""
        while True:
            done = {way: run for way, run in self._entered.items() if run.done()}
            for way, run in done.items():
                if run.exception() is None:
                    return way, run.result()
            running = [run for run in self._entered.values() if not run.done()]
            left = until - time.monotonic()
            if not running or left <= 0:
                return None
            wait(running, left, FIRST_COMPLETED)

    def why_not(self) -> str:
        """What the ways that failed raised, on one line."""
        failed = (run.exception() for run in self._entered.values() if run.done())
        return "; ".join(str(error) for error in failed if error) or "the deadline passed"

    def close(self, seconds: float) -> bool:
        """Let the threads go; whether all had done by then what they did."""
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
