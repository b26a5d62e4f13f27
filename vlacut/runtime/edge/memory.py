"""What the edge remembers: the state after its steps, and how both sides come to agree on it.

A *moment* is the state after a step of an episode, whatever it was computed on. Its snapshots are
the edge's tensors of it, by the version that the cloud knows the same state by. Where no snapshot
of a moment can be had on both sides, it is made again from the moment before, with the observation
that was kept; and so on, up to the first of the episode, which both sides always have.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlacut.backend import Tensor
from vlacut.hardware import Side
from vlacut.plans.instructions import Transfer, flatten
from vlacut.plans.plan import Plan, Variant
from vlacut.runtime.wire.protocol.header import STATE
from vlacut.runtime.wire.receiver import Owed

_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Snapshot:
    """State on the edge.

    Attributes:
        version: that the cloud knows it by; 0 at the beginning of an episode.
        tensors: by key.
        owed: keys that are on their way from the cloud.
        source: the connection that these come on.
    """

    version: int
    tensors: dict[str, Tensor]
    owed: frozenset[str] = _NOTHING
    source: object = None

    def reach(self, connection: object) -> frozenset[str]:
        """Keys that are here, or will come on a connection."""
        coming = self.owed if connection is not None and connection is self.source else _NOTHING
        return frozenset(self.tensors) | coming


@dataclass(eq=False)
class Moment:
    """The state after a step.

    Attributes:
        snapshots: of it, the newest last.
        parent: the moment before; None for the first of an episode, and where it was forgotten.
        observation: that led here from the parent.
        connection: over which the cloud took part in that.
        alone: whether the edge made the step alone, since the cloud did not in time.
    """

    snapshots: list[Snapshot]
    parent: Moment | None = None
    observation: Mapping[str, np.ndarray] = field(default_factory=dict)
    connection: object = None
    alone: bool = False

    def forget_before(self, steps: int) -> None:
        """Forget what came more than so many steps before."""
        moment = self
        for _ in range(steps):
            if moment.parent is None:
                return
            moment = moment.parent
        moment.parent = None
        moment.observation = {}


@dataclass(frozen=True)
class Path:
    """How a step comes by the state that it builds on.

    Attributes:
        start: a snapshot that both sides can have.
        up, down: keys that have to cross first.
        again: moments to be made again from there, in order.
    """

    start: Snapshot
    up: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    again: tuple[Moment, ...] = ()


class Remembered:
    """What all ways to make a step share: state stays on the device, whichever engines made it.

    Args:
        plan: of the bundle.
        initial: state at first, by key.

    Attributes:
        observations: how many are kept, to make steps again whose state the cloud lost.
    """

    def __init__(self, plan: Plan, initial: Mapping[str, np.ndarray]) -> None:
        self.observations = plan.kept_observations if is_remote(plan) else 0
        self._initial = initial
        self._numbers = itertools.count()

    def number(self) -> int:
        """The number of the next step on the wire: one that is made again is another one."""
        return next(self._numbers)

    def begin(self) -> Moment:
        """The beginning of an episode."""
        return Moment([Snapshot(0, dict(self._initial))])


def find_path(
    plan: Plan,
    variant: int,
    moment: Moment,
    connection: object,
    cloud: Mapping[int, frozenset[str]],
) -> Path | None:
    """The way to a moment for a step by a variant; None if too much is lost.

    Args:
        plan: of the bundle.
        variant: index of the plan's.
        moment: that the step is to build on.
        connection: to the cloud; None for a step of the edge alone.
        cloud: keys that the cloud holds, by version.
    """
    reads = plan.state_uses[variant].reads
    again: list[Moment] = []
    here: Moment | None = moment
    while here is not None:
        for snapshot in reversed(here.snapshots):
            if snapshot.version == 0:
                return Path(snapshot, again=tuple(again))
            there, have = cloud.get(snapshot.version, _NOTHING), snapshot.reach(connection)
            up, down = reads[Side.CLOUD] - there, reads[Side.EDGE] - have
            if up <= frozenset(snapshot.tensors) and down <= there:
                return Path(snapshot, _ordered(plan, up), _ordered(plan, down), tuple(again))
        again.insert(0, here)
        here = here.parent
    return None


def _ordered(plan: Plan, keys: frozenset[str]) -> tuple[str, ...]:
    return tuple(state.key for state in plan.states if state.key in keys)


def owed_state(version: int, index: int) -> Owed:
    """How a tensor of state that was asked for is known when it comes.

    Args:
        version: of the state.
        index: of the state in the plan.
    """
    return STATE, version, (0, index, 0)


def is_remote(plan: Plan) -> bool:
    """Whether the cloud may hold state that the edge has no copy of, or none yet: what comes behind
    the action is lost with a connection that ends there.
    """
    if any(_comes_later(variant) for variant in plan.variants):
        return True
    recurrent = plan.state_keys - plan.staying_keys
    return any(
        recurrent - use.keeps[Side.EDGE] or plan.staying_keys - use.first_keeps[Side.EDGE]
        for use in plan.state_uses
    )


def _comes_later(variant: Variant) -> bool:
    return any(
        isinstance(item, Transfer) and item.later and item.source is Side.CLOUD
        for item in flatten((*variant.first, *variant.schedule))
    )


def copied(observation: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A copy of an observation, by name: it stays as it is, whatever its owner does to his."""
    return {name: np.array(array) for name, array in observation.items()}
