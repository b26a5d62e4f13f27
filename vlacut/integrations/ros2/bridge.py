"""Between topics and a policy: the newest of each input, a step when all are there, a chunk.

It knows no ROS: the node hands messages in, and sends on what comes out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlacut.errors import InputError, VlacutError, one_line
from vlacut.integrations.openpi.policy import OpenpiPolicy
from vlacut.integrations.ros2 import compressed
from vlacut.integrations.ros2.messages import array_of, stamp_ns
from vlacut.integrations.ros2.wiring import Wiring

OK, WARN, ERROR = 0, 1, 2  # of diagnostic_msgs/msg/DiagnosticStatus
_log = logging.getLogger("vlacut.edge")


@dataclass(frozen=True)
class Outcome:
    """What came of a step.

    Attributes:
        commands: [horizon, joints]; None where there are none, or those of before again.
        stamp_ns: on ROS's clock, when the oldest input behind them was captured.
        level: `OK`, `WARN` or `ERROR`.
        said: why, in a line.
        values: numbers of the step, by name.
    """

    commands: np.ndarray | None
    stamp_ns: int
    level: int
    said: str
    values: dict[str, float]


@dataclass(frozen=True)
class _Heard:
    message: Any
    stamp_ns: int


class Bridge:
    """Makes steps of what was heard last.

    Args:
        policy: that makes chunks.
        wiring: of the node.
        now_ns: ROS's clock.

    Raises InputError where the wiring does not fit the bundle, or needs what is not installed.
    """

    def __init__(self, policy: OpenpiPolicy, wiring: Wiring, now_ns: Callable[[], int]) -> None:
        if len(wiring.names) != policy.width:
            raise InputError(
                f"output: {len(wiring.names)} joints are named, and a command of the bundle has "
                f"{policy.width}"
            )
        if any(one.type == compressed.TYPE for one in wiring.inputs.values()):
            compressed.pillow()
        self._policy, self._wiring, self._now_ns = policy, wiring, now_ns
        self._heard: dict[str, _Heard] = {}
        self._lock = threading.Lock()

    def hear(self, name: str, message: Any) -> None:
        """Take the newest message of an input; it is read when a step needs it."""
        now = self._now_ns()
        # One of the future would never grow old, whatever became of its topic.
        heard = _Heard(message, min(stamp_ns(message) or now, now))
        with self._lock:
            self._heard[name] = heard

    def step(self, wanted: Callable[[], bool] = lambda: True) -> Outcome:
        """Make a step, if every input is there and new enough. It raises nothing of a step's."""
        with self._lock:
            heard = dict(self._heard)
        missing = [name for name in self._wiring.inputs if name not in heard]
        if missing:
            where = ", ".join(f"{name} ({self._wiring.inputs[name].topic})" for name in missing)
            return Outcome(None, 0, WARN, f"nothing was heard of {where}", {})
        oldest = min(heard.values(), key=lambda one: one.stamp_ns).stamp_ns
        age_s = (self._now_ns() - oldest) * 1e-9
        if age_s > self._wiring.max_age_s:
            late = [name for name, one in heard.items() if one.stamp_ns == oldest]
            return Outcome(None, oldest, WARN, f"{late[0]} is {age_s:.2f} s old", {})
        try:
            return self._made(heard, oldest, age_s, wanted)
        except VlacutError as error:  # a message that does not fit, or no cloud
            said = one_line(error)
            _log.warning("no step was made: %s", said)
            return Outcome(None, oldest, ERROR, said, {})

    def _made(
        self, heard: dict[str, _Heard], oldest: int, age_s: float, wanted: Callable[[], bool]
    ) -> Outcome:
        sent = {
            name: array_of(name, source, heard[name].message, self._policy.fields.most_bytes)
            for name, source in self._wiring.inputs.items()
        }
        captured = time.perf_counter_ns() - max(0, int(age_s * 1e9))
        made = self._policy.infer(sent, wanted, captured)
        values = {**made["server_timing"], **made["policy_timing"]}
        if values["stale"]:
            why = "failed" if values["failed"] else "late"
            return Outcome(None, oldest, WARN, f"the step was {why}: earlier commands hold", values)
        return Outcome(np.asarray(made["actions"]), oldest, OK, "running", values)
