"""Both sides of a variant in one process, over a socket pair: the real wire without a network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping

import numpy as np

from vlacut.backend import Engine
from vlacut.errors import VlacutError
from vlacut.plans.plan import Plan
from vlacut.runtime.engines import OpenedEngines
from vlacut.runtime.interpreter import Walk
from vlacut.runtime.wire.connection import Connection
from vlacut.runtime.wire.layout import Layout
from vlacut.runtime.wire.route import Route
from vlacut.side import Side


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
    ends = socket.socketpair()
    here, there = OpenedEngines(engines), OpenedEngines(engines)
    edge = Connection(ends[0], Layout(plan, Side.EDGE, here.empty), timeout)
    cloud = Connection(ends[1], Layout(plan, Side.CLOUD, there.empty), timeout)
    failed: list[VlacutError] = []

    def serve() -> None:
        try:
            Walk(Route(plan, Side.CLOUD, variant), there).run({}, (), 0, cloud)
        except VlacutError as error:
            failed.append(error)
            cloud.close()

    other = threading.Thread(target=serve, daemon=True)
    other.start()
    try:
        walk = Walk(Route(plan, Side.EDGE, variant), here)
        arrays = walk.run(observation, plan.outputs.values(), 0, edge)
        other.join(timeout)
    except VlacutError as error:
        edge.close()  # so that the cloud does not wait for what will not come
        other.join(timeout)
        raise (failed or [error])[0] from error
    finally:
        edge.close()
        cloud.close()
        here.close()
        there.close()
    if failed:
        raise failed[0]
    return dict(zip(plan.outputs, arrays, strict=True))
