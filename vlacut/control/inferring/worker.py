"""Inferences beside the loop: a thread that drives an `EdgeSession`, one step after the other."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from vlacut.control.inferring.inference import Answer, Inference, Outlook
from vlacut.control.inferring.latency import InferenceTimes
from vlacut.errors import InputError, VlacutError
from vlacut.runtime.closing import Closing
from vlacut.runtime.edge.report import Source
from vlacut.runtime.edge.session import EdgeSession

_WARMING = "requests are in flight, and the first has no action yet"
_END_S = 1.0  # that `close` waits for a step

_log = logging.getLogger("vlacut.control")


class Worker(Closing):
    """A `Runner`: a step of the session is one inference, with its fallbacks and its hedging.

    Nothing here is interrupted or waited for. The session is the worker's alone while it is open.
    """

    def __init__(
        self, session: EdgeSession, clock_ns: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self._session = session
        self._clock_ns = clock_ns
        self._names = [variant.name for variant in session.plan.variants]
        self._times = InferenceTimes(session.plan)
        self._asked: SimpleQueue[Inference | Callable[[], None] | None] = SimpleQueue()
        self._made: SimpleQueue[Answer | BaseException] = SimpleQueue()
        self._failing = ""
        self._outlook = self._look(0)
        self._thread = threading.Thread(target=self._work, name="vlacut-control", daemon=True)
        self._thread.start()

    def start(self, inference: Inference, now_ns: int) -> None:
        """See `Runner`."""
        self._asked.put(inference)

    def answer(self, now_ns: int) -> Answer | None:
        """See `Runner`. Raises errors that are the caller's fault: InputError, and errors that are
        not of this package.
        """
        if self._made.empty():
            return None
        made = self._made.get_nowait()
        if isinstance(made, BaseException):
            raise made
        return made

    def reset(self) -> None:
        """Begin another episode; the session begins it after the step that is under way."""
        self._asked.put(self._begin)

    def outlook(self, now_ns: int) -> Outlook:
        """See `Runner`: as the last step left it."""
        return self._outlook

    def run(self, inference: Inference) -> Answer:
        """Make an inference now, and wait for it; not for ticks. Raises what the step does."""
        session, began_ns = self._session, self._clock_ns()
        action = session.step(inference.observation, inference.captured_ns, inference.variant)
        seconds = (self._clock_ns() - began_ns) * 1e-9
        report = session.last
        variant = self._names.index(report.variant)
        if report.source is Source.CHOSEN:
            self._times.learn(variant, report.expected, seconds)
        else:
            alone = report.source is Source.ALONE
            left = session.plan.crosses.index(False) if alone else None
            self._times.fell_back(seconds, left)
        self._outlook = self._look(variant)
        return Answer(
            inference,
            action or None,
            _WARMING if report.warming else "",
            captured_ns=report.made.captured_ns,
            variant=variant,
            source=report.source.value,
            seconds=seconds,
            step=report,
        )

    def close(self) -> None:
        """End the thread after its current step; the session stays open."""
        self._asked.put(None)
        self._thread.join(_END_S)

    def _begin(self) -> None:
        self._session.reset()
        self._times.reset()
        self._outlook = self._look(self._outlook.likely)

    def _look(self, likely: int) -> Outlook:
        forecast = self._session.forecast()
        return Outlook(*self._times.at(forecast.at()), likely, forecast)

    def _work(self) -> None:
        while (inference := self._asked.get()) is not None:
            if not isinstance(inference, Inference):
                inference()
                continue
            try:
                self._made.put(self.run(inference))
                self._note("")
            except InputError as error:  # of whoever set up the loop, who shall hear of it
                self._made.put(error)
            except VlacutError as error:
                self._note(str(error))
                self._made.put(Answer(inference, None, str(error), variant=self._outlook.likely))
            except BaseException as error:  # a tick raises it
                self._made.put(error)

    def _note(self, failing: str) -> None:
        """Say once that inferences fail, or do no longer."""
        if bool(failing) != bool(self._failing):
            if failing:
                _log.warning("inferences fail: %s", failing)
            else:
                _log.info("inferences succeed again")
        self._failing = failing
