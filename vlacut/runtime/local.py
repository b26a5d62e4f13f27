"""Both sides of a variant in one process, over a socket pair: the real wire without a network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vlacut.backend import Engine, Tensor
from vlacut.errors import VlacutError
from vlacut.hardware import Side
from vlacut.plans.plan import Plan
from vlacut.plans.state import initial_state
from vlacut.runtime.engines import OpenedEngines, host_arrays
from vlacut.runtime.interpreter import Walk
from vlacut.runtime.wire.connection import Connection
from vlacut.runtime.wire.layout import Layout
from vlacut.runtime.wire.route import Route


class LocalStep(NamedTuple):
    """What a control step of an episode came to.

    Attributes:
        action: by name.
        state: that it left, by side and key.
    """

    action: dict[str, np.ndarray]
    state: dict[Side, dict[str, np.ndarray]]


def run_both(
    plan: Plan,
    engines: Mapping[str, Engine],
    variant: int,
    observation: Mapping[str, np.ndarray],
    timeout: float = 60.0,
) -> dict[str, np.ndarray]:
    """The action of one control step, by name; engines of all parts of the variant.

    Raises what either side raises.
    """
    return run_episode(plan, engines, variant, (observation,), timeout=timeout)[0].action


def run_episode(
    plan: Plan,
    engines: Mapping[str, Engine],
    variant: int,
    observations: Sequence[Mapping[str, np.ndarray]],
    initial: Mapping[str, np.ndarray] | None = None,
    timeout: float = 60.0,
) -> list[LocalStep]:
    """The steps of an episode by one variant; engines of all its parts.

    Args:
        plan: of the bundle.
        engines: by name of part.
        variant: index of the plan's.
        observations: one a step.
        initial: state at first, by key, where the plan says that it is not zeros.
        timeout: seconds that one side waits for the other.

    Raises what either side raises.
    """
    ends = socket.socketpair()
    first = initial_state(plan.states, plan.spec, initial or {})
    sides = {
        side: _Side(plan, side, variant, engines, end, first, timeout)
        for side, end in zip(Side, ends, strict=True)
    }
    failed: list[VlacutError] = []

    def serve() -> None:
        try:
            for number in range(len(observations)):
                sides[Side.CLOUD].step(number, {})
        except VlacutError as error:
            failed.append(error)
            sides[Side.CLOUD].connection.close()

    other = threading.Thread(target=serve, daemon=True)
    other.start()
    try:
        actions = [
            sides[Side.EDGE].step(number, observed) for number, observed in enumerate(observations)
        ]
        other.join(timeout)
    except VlacutError as error:
        sides[Side.EDGE].connection.close()  # so that the cloud does not wait in vain
        other.join(timeout)
        raise (failed or [error])[0] from error
    finally:
        for one in sides.values():
            one.close()
    if failed:
        raise failed[0]
    return [
        LocalStep(action, {side: one.left[number] for side, one in sides.items()})
        for number, action in enumerate(actions)
    ]


class _Side:
    """One side of a variant.

    Attributes:
        connection: to the other.
        left: state that every step left, by key.
    """

    def __init__(
        self,
        plan: Plan,
        side: Side,
        variant: int,
        engines: Mapping[str, Engine],
        end: socket.socket,
        initial: Mapping[str, np.ndarray],
        timeout: float,
    ) -> None:
        self._engines = OpenedEngines(engines)
        layout = Layout(plan, side, self._engines.empty)
        self.connection = Connection(end, layout, timeout)
        self.left: list[dict[str, np.ndarray]] = []
        self._plan, self._side = plan, side
        self._state: dict[str, Tensor] = dict(initial)
        self._walks = [
            Walk(Route(plan, side, variant, first=first), self._engines)
            for first in (bool(plan.states), False)
        ]
        self._keeps = plan.state_uses[variant].keeps[side]

    def step(self, number: int, observation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A control step: the action, on the edge."""
        plan, walk = self._plan, self._walks[min(number, 1)]
        on_edge = self._side is Side.EDGE
        wanted = plan.outputs.values() if on_edge else ()
        arrays = []
        if on_edge or walk.crosses:
            arrays = walk.run(
                *(observation, wanted, number, self.connection), base=number, state=self._state
            )
        kept = walk.kept if on_edge or walk.crosses else {}
        for key in plan.staying_keys & self._state.keys():
            kept.setdefault(key, self._state[key])
        for key in self._keeps if on_edge else ():
            self.connection.wait_for(key, kept)
        self._state = kept
        found = host_arrays(kept.values())
        self.left.append(dict(zip(kept, map(np.array, found), strict=True)))
        return dict(zip(plan.outputs, arrays, strict=True)) if on_edge else {}

    def close(self) -> None:
        """End it."""
        self.connection.close()
        self._engines.close()
