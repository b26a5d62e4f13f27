"""Steps that build on state: the sides agree on it, the step is made, and what it left is noted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from vlacut.hardware import Side
from vlacut.plans.plan import Plan
from vlacut.plans.state import StateRule
from vlacut.runtime.edge.link import Line
from vlacut.runtime.edge.memory import Moment, Path, Remembered, Snapshot, find_path, owed_state
from vlacut.runtime.edge.report import Made, Source
from vlacut.runtime.edge.request import StepRequest
from vlacut.runtime.engines import host_arrays
from vlacut.runtime.interpreter import Walk
from vlacut.runtime.tally import Tally
from vlacut.runtime.wire.protocol.header import FETCH, STATE, Header

_SNAPSHOTS = 2  # of a moment: what both sides had last, and the one before


class RememberingSteps:
    """Makes steps of a plan that has state. One thread uses it at a time.

    Args:
        plan: of the bundle.
        memory: shared by all ways to make a step.
        walks, firsts: of the edge, by variant; the latter for first steps of episodes.

    Attributes:
        number: of the step on the wire that was begun last.
        tally: of the same.
    """

    def __init__(
        self, plan: Plan, memory: Remembered, walks: Sequence[Walk], firsts: Sequence[Walk]
    ) -> None:
        self.number = 0
        self.tally = Tally()
        self._plan = plan
        self._memory = memory
        self._walks = walks
        self._firsts = firsts
        self._index = {state.key: index for index, state in enumerate(plan.states)}

    def can_stay(self, request: StepRequest, line: Line | None, linked: bool) -> bool:
        """Whether a step by a variant that does not cross can be made without asking the cloud; not
        if the edge lacks state, and a cloud may have it.
        """
        if request.moment is None or not linked:
            return True
        connection, cloud = (line.connection, line.cloud) if line else (None, {})
        path = find_path(self._plan, request.variant, request.moment, connection, cloud)
        return path is not None and not path.down

    def make(
        self,
        request: StepRequest,
        line: Line | None,
        source: Source,
        meanwhile: Callable[[], object] | None,
    ) -> Made:
        """The action, and the state that the step leaves.

        Where too much is lost to have the state again, it builds on the initial one.

        Args:
            request: the step; its `moment` is not None.
            line: to the cloud; None for a step of the edge alone.
            source: what the report says of the action.
            meanwhile: called while the step waits for the cloud, if at all; None for nothing.

        Raises as `Walk.run` does, and as `Connection.send` where state has to cross first.
        """
        moment, variant = request.moment, request.variant
        assert moment is not None
        connection, cloud = (line.connection, line.cloud) if line else (None, {})
        path = find_path(self._plan, variant, moment, connection, cloud)
        if path is None:
            moment = self._memory.begin()
            path = Path(moment.snapshots[0])
        start, up, down = path.start, path.up, path.down
        for lost in path.again:
            _, start = self._run(line, variant, lost.observation, (start, up, down), (), None)
            lost.snapshots[:] = [*lost.snapshots, start][-_SNAPSHOTS:]
            up = down = ()
        wanted = self._plan.outputs.values()
        arrays, left = self._run(
            line, variant, request.observation, (start, up, down), wanted, meanwhile
        )
        rule = _rule(path, moment, connection)
        action = dict(zip(self._plan.outputs, arrays, strict=True))
        # The observation is the caller's: whoever takes the step for good copies it.
        after = Moment([left], moment, request.observation, connection, source is Source.ALONE)
        again = len(path.again)
        return Made(action, source, request.captured_ns, self.tally, after, rule, again)

    def _run(
        self,
        line: Line | None,
        variant: int,
        observation: Mapping[str, np.ndarray],
        built: tuple[Snapshot, tuple[str, ...], tuple[str, ...]],
        wanted: Iterable[str],
        meanwhile: Callable[[], object] | None,
    ) -> tuple[list[np.ndarray], Snapshot]:
        """One step on a snapshot, for which keys have to cross up and down first."""
        start, up, down = built
        first = start.version == 0
        walk = (self._firsts if first else self._walks)[variant]
        self.number = number = self._memory.number()
        self.tally = Tally()
        told = walk.crosses or bool(up)
        if line is not None and told:
            held = line.cloud.get(start.version, frozenset())
            line.cloud.clear()  # the cloud forgets all else
            line.cloud[start.version] = held | frozenset(up)
        moved = self._move(line, start, up, down)
        connection = line.connection if line and (walk.crosses or down or start.owed) else None
        try:
            arrays = walk.run(
                *(observation, wanted, number, connection, meanwhile),
                base=start.version,
                state=start.tensors,
            )
        finally:
            self.tally = walk.tally
            walk.tally.sent += moved[0]
            walk.tally.received += moved[1]
        use, staying = self._plan.state_uses[variant], self._plan.staying_keys
        if line is not None and walk.crosses:
            stayed = line.cloud.get(start.version, frozenset()) & staying
            line.cloud[number + 1] = use.held_after(Side.CLOUD, stayed, first)
        kept = walk.kept
        for key in staying & start.tensors.keys():
            if not first:
                kept.setdefault(key, start.tensors[key])
        owed = use.keeps[Side.EDGE] - kept.keys()
        return arrays, Snapshot(number + 1, kept, owed, connection)

    def _move(
        self, line: Line | None, start: Snapshot, up: tuple[str, ...], down: tuple[str, ...]
    ) -> tuple[int, int]:
        """Send state that the cloud lacks, and ask for what the edge does; bytes up and down."""
        sent = received = 0
        if line is None:
            return sent, received
        connection, version = line.connection, start.version
        for key in up:
            (array,) = host_arrays((start.tensors[key],))
            header = Header(STATE, 0, self._index[key], 0, self.number, array.nbytes, version)
            connection.send(header, [array])
            sent += array.nbytes
        for key in down:
            index = self._index[key]
            connection.receiver.owe(owed_state(version, index), start.tensors, ((0, key),))
            connection.send(Header(FETCH, 0, index, 0, self.number, 0, version), [])
            received += self._plan.spec[key].nbytes
        return sent, received


def _rule(path: Path, moment: Moment, connection: object) -> StateRule:
    if path.start.version == 0 and not path.again:
        return StateRule.RESET
    if path.again:
        return StateRule.RECOMPUTED
    if path.up and (moment.alone or moment.connection is not connection):
        return StateRule.RESENT
    return StateRule.MOVED if path.up or path.down else StateRule.KEPT
