"""What the cloud remembers of a robot: its state, by version."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from vlacut.backend import Tensor
from vlacut.errors import WireError
from vlacut.plans.plan import Plan
from vlacut.runtime.engines import host_arrays
from vlacut.runtime.wire.remembered import pack_memory


class RobotMemory:
    """The state of one robot on this side: of the base of its last step, and what that step left.

    Used by the thread that serves the robot; whoever serves it next waits for `released`.

    Args:
        plan: of the bundle.
        initial: state at first, by key.

    Attributes:
        released: set once no session of the robot uses it.
    """

    def __init__(self, plan: Plan, initial: Mapping[str, np.ndarray]) -> None:
        self.released = threading.Event()
        self._plan = plan
        self._initial = initial
        self._held: dict[int, dict[str, Tensor]] = {}

    def told(self) -> bytes:
        """What it holds, for the robot."""
        held = {version: frozenset(tensors) for version, tensors in self._held.items()}
        return pack_memory(self._plan, held)

    def base(self, version: int) -> Mapping[str, Tensor]:
        """The state that a step builds on, as far as it is here; all other is forgotten."""
        if version == 0:
            self._held = {}
            return self._initial
        self._held = {version: self._held.get(version, {})}
        return self._held[version]

    def put(self, version: int, index: int, array: np.ndarray) -> None:
        """A tensor of the state that the next step builds on, by its index in the plan.

        Raises WireError for the initial state, which no robot sends.
        """
        if version == 0:
            raise WireError("the robot sent an initial state")
        self._held = {version: self._held.get(version, {})}
        self._held[version][self._plan.states[index].key] = np.array(array)

    def get(self, version: int, index: int) -> np.ndarray:
        """A tensor of state, on the host. Raises WireError if it is not here."""
        key = self._plan.states[index].key
        if key not in self._held.get(version, {}):
            raise WireError(f"the robot asked for state {key} of version {version}: it is not here")
        return host_arrays((self._held[version][key],))[0]

    def leave(self, step: int, base: int, kept: Mapping[str, Tensor]) -> None:
        """A step is over, and this is what it left."""
        stays = {
            key: tensor
            for key, tensor in self._held.get(base, {}).items()
            if key in self._plan.staying_keys
        }
        self._held[step + 1] = stays | dict(kept)

    def release(self) -> None:
        """No session uses it any more: what lies on a device comes to the host."""
        for version, tensors in self._held.items():
            arrays = [np.array(array) for array in host_arrays(tensors.values())]
            self._held[version] = dict(zip(tensors, arrays, strict=True))
        self.released.set()
