"""The edge's side of a deployment: observations in, actions out."""

from __future__ import annotations

import difflib
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from vlacut.backend import Engine
from vlacut.errors import InputError, ObservationError, PeerLost
from vlacut.plan import Plan, Transfer, Variant, flatten
from vlacut.pricing import Side
from vlacut.runtime.interpreter import Tally, Walk
from vlacut.runtime.layout import Layout, cloud_parts
from vlacut.runtime.policy import Policy
from vlacut.runtime.wire import Connection, greet


@dataclass(frozen=True)
class StepReport:
    """Where the time of a control step went.

    Attributes:
        step: its number, from 0.
        variant: that ran.
        latency_s: from observation to action.
        edge_s, cloud_s: seconds by part.
        bytes_up, bytes_down: of tensors.
        frames: sent and received by the edge.
    """

    step: int
    variant: str
    latency_s: float
    edge_s: Mapping[str, float]
    cloud_s: Mapping[str, float]
    bytes_up: int
    bytes_down: int
    frames: int

    @property
    def network_s(self) -> float:
        """What neither side computed in: the link, the wire format, and waiting."""
        return self.latency_s - sum(self.edge_s.values()) - sum(self.cloud_s.values())


class EdgeSession:
    """A robot's connection to its cloud.

    Args:
        plan: of the bundle.
        digest: of the bundle.
        engines: by name of part, all edge parts.
        address: host and port of the cloud; None if no variant that will run crosses.
        policy: which variant each step runs; the plan's first if not given.
        timeout: seconds without progress after which the cloud counts as lost.

    Raises InputError if every variant crosses the link and no address is given, PeerLost if nobody
    answers there, WireError if it holds another bundle.
    """

    def __init__(
        self,
        plan: Plan,
        digest: bytes,
        engines: Mapping[str, Engine],
        address: tuple[str, int] | None,
        timeout: float = 10.0,
        policy: Policy = lambda _: 0,
    ) -> None:
        self._plan = plan
        self._policy = policy
        self._engines = engines
        self._variant = 0
        self._step = 0
        self._connection: Connection | None = None
        self._last: StepReport | None = None
        crosses = [_crosses(variant) for variant in plan.variants]
        if address is None and all(crosses):
            raise InputError(
                f"the plan of {plan.program} crosses the link; name the cloud's HOST:PORT"
            )
        if address is not None and any(crosses):
            sock = _dial(address, timeout)
            try:
                greet(sock, digest, timeout)
            except BaseException:
                sock.close()
                raise
            self._connection = Connection(sock, Layout(plan, Side.EDGE), timeout)

    def step(self, observation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One control step: the action, by name.

        Raises ObservationError before anything is sent, and PeerLost or WireError; after one of
        these the session is closed.
        """
        checked = check_observation(self._plan, observation)
        start = time.perf_counter_ns()
        self._variant = self._policy(self._last)
        walk = Walk(
            self._plan, Side.EDGE, self._engines, self._connection, self._step, self._variant
        )
        try:
            arrays = walk.run(checked, self._plan.outputs.values())
        except BaseException:
            self.close()
            raise
        latency = time.perf_counter_ns() - start
        self._last = self._report(walk.tally, latency)
        self._step += 1
        return dict(zip(self._plan.outputs, arrays, strict=True))

    @property
    def last(self) -> StepReport:
        """Report of the last step; InputError before the first."""
        if self._last is None:
            raise InputError("no step was run yet")
        return self._last

    def close(self) -> None:
        """End the connection; calling it again does nothing."""
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> EdgeSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _report(self, tally: Tally, latency_ns: int) -> StepReport:
        remote = {part.name for part in cloud_parts(self._plan, self._variant)}
        seconds = {name: spent * 1e-9 for name, spent in tally.part_ns.items()}
        return StepReport(
            step=self._step,
            variant=self._plan.variants[self._variant].name,
            latency_s=latency_ns * 1e-9,
            edge_s={name: spent for name, spent in seconds.items() if name not in remote},
            cloud_s={name: spent for name, spent in seconds.items() if name in remote},
            bytes_up=tally.sent,
            bytes_down=tally.received,
            frames=tally.frames,
        )


def _crosses(variant: Variant) -> bool:
    return any(isinstance(item, Transfer) for item in flatten(variant.schedule))


def _dial(address: tuple[str, int], timeout: float) -> socket.socket:
    try:
        sock = socket.create_connection(address, timeout)
    except OSError as error:
        host, port = address
        raise PeerLost(
            f"nobody answers at {host}:{port} ({error.strerror or error}); start vlacut serve there"
        ) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def check_observation(plan: Plan, observation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The observation, every tensor checked; ObservationError naming the first that is wrong."""
    expected = {spec.name: spec for spec in plan.inputs}
    for name in observation:
        if name not in expected:
            near = difflib.get_close_matches(name, expected, n=1) or sorted(expected)
            raise ObservationError(f"unexpected tensor {name!r}; did you mean {', '.join(near)}?")
    missing = [str(spec) for name, spec in expected.items() if name not in observation]
    if missing:
        raise ObservationError(f"missing from the observation: {', '.join(missing)}")
    return {name: spec.check(np.asarray(observation[name])) for name, spec in expected.items()}
