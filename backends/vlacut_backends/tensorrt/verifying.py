"""An engine against the golden tensors of its part, run as the runtime will run it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import NamedTuple

from vlacut.runtime.engines import OpenedEngines, host_arrays
from vlacut_backends.tensorrt.execute import TensorRTEngine
from vlacut_backends.tensorrt.golden import Comparison, Golden, compare, fit

_TIMED_RUNS = 10


class Verified(NamedTuple):
    """What running an engine came to.

    Attributes:
        compared: with the golden tensors.
        device_ms: median of a run on the device.
        graph: whether it runs as a CUDA graph.
    """

    compared: Comparison
    device_ms: float
    graph: bool


def verify_engine(engine: TensorRTEngine, golden: Golden, dtypes: Mapping[str, str]) -> Verified:
    """Run an engine on golden tensors, or zeros where there are none; `dtypes` by key.

    Raises BackendError if it fails, or has other inputs and outputs.
    """
    golden = fit(golden, engine.ports, engine.name)
    with OpenedEngines({engine.name: engine}) as loop:
        opened = loop[engine.name]
        spent = []
        for _ in range(_TIMED_RUNS):
            made = opened.run(golden.inputs)
            spent.append(opened.device_ns * 1e-6)
        # After them: so it is the graph, where there is one, that is compared.
        outputs = dict(zip(made, host_arrays(made.values()), strict=True))
        compared = compare(outputs, golden, dtypes)
    return Verified(compared, statistics.median(spent), opened.captures)
