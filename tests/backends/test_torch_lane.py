"""Parts of PyTorch on a GPU, as far as that goes without one: on a fake of its CUDA, which computes
on the CPU, and replays a graph as the guide says it is: at the addresses of the capture.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.deployments import pool_deployment
from support.fake_machine import TARGET
from support.mixed import Maker
from support.programs import looping_program, random_stateful

from vlacut.bundle.opened import Bundle
from vlacut.compiler.driver import compile_program
from vlacut.errors import BackendError
from vlacut.hardware import Side
from vlacut.plans.plan import Part
from vlacut.runtime.engines import OpenedEngines
from vlacut.runtime.local import run_episode
from vlacut_backends.aten.module import PartModule
from vlacut_backends.torch.lane import DeviceTorchEngine, Gpu, TorchLane


class _Event:
    def record(self, stream: Any) -> None: ...
    def synchronize(self) -> None: ...
    def elapsed_time(self, other: Any) -> float:
        return 0.25


class _Graph:
    def __init__(self, run: Callable[[], tuple[torch.Tensor, ...]]) -> None:
        self._run, self.replays = run, 0
        self.made = tuple(torch.zeros_like(one) for one in run())

    def replay(self) -> None:
        self.replays += 1
        for here, now in zip(self.made, self._run(), strict=True):
            here.copy_(now)


class FakeGpu(Gpu):
    """Counts what is asked of it."""

    device = torch.device("cpu")

    def __init__(self, captures: bool = True) -> None:
        self.captures, self.pinned_bytes, self.graphs = captures, 0, list[_Graph]()

    def stream(self) -> Any:
        return _Event()

    def on(self, stream: Any) -> Any:
        return nullcontext()

    def event(self) -> Any:
        return _Event()

    def pinned(self, nbytes: int) -> torch.Tensor:
        self.pinned_bytes += nbytes
        return torch.empty(nbytes, dtype=torch.uint8)

    def captured(self, run: Callable[[], tuple[torch.Tensor, ...]], stream: Any) -> Any:
        if not self.captures:
            raise RuntimeError("operation not permitted when stream is capturing")
        with torch.inference_mode():
            self.graphs.append(_Graph(run))
        return self.graphs[-1], self.graphs[-1].made


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("lane") / "looping.vlacut"
    return compile_program(looping_program(), TARGET, path, backend="torch")[1]


def engines_of(bundle: Bundle, gpu: Gpu) -> dict[str, DeviceTorchEngine]:
    return {
        part.name: DeviceTorchEngine(
            PartModule(bundle.part_path(part), bundle.root), part.name, gpu
        )
        for part in bundle.plan.parts
    }


@pytest.mark.parametrize("captures", [True, False])
def test_steps_are_right_operator_by_operator_and_as_graphs(bundle: Bundle, captures: bool) -> None:
    gpu = FakeGpu(captures)
    engines = engines_of(bundle, gpu)
    given = [bundle.golden("observation")] * 3
    steps = run_episode(bundle.plan, engines, 0, given)
    for step in steps:
        np.testing.assert_array_equal(step.action["action"], bundle.golden("action")["action"])
    assert len(gpu.graphs) == (len(engines) if captures else 0)
    assert sum(graph.replays for graph in gpu.graphs) == (3 * 6 - len(engines) if captures else 0)


def test_pools_with_state_are_right_on_a_lane(tmp_path: Path) -> None:
    """What a step leaves on a device stays what it is when graphs write anew."""
    program, gpu = random_stateful(1), FakeGpu()
    plain = Maker(tmp_path, dict.fromkeys(Side, "torch"))

    def on_gpu(part: Part, model: Any) -> DeviceTorchEngine:
        return DeviceTorchEngine(plain(part, model)._module, part.name, gpu)

    plan, engines = pool_deployment(program, 1, make=on_gpu)
    _, wanted = pool_deployment(random_stateful(1), 1, make=plain)
    from support.deployments import initial_of
    from support.programs import observation

    observed = [observation(program, number) for number in range(4)]
    for variant in range(len(plan.variants)):
        made = run_episode(plan, engines, variant, observed, initial_of(program))
        expected = run_episode(plan, wanted, variant, observed, initial_of(program))
        for here, there in zip(made, expected, strict=True):
            for name, array in there.action.items():
                np.testing.assert_array_equal(here.action[name], array)


def test_what_is_there_is_not_copied(bundle: Bundle) -> None:
    """A carried state is handed from run to run, and comes to the host when it is asked for."""
    gpu = FakeGpu(captures=False)
    with OpenedEngines(engines_of(bundle, gpu)) as opened:
        part = next(part for part in bundle.plan.parts if part.phase == "decode")
        engine = opened[part.name]
        held = {key: np.ones((1, 64), np.float32) for key in part.inputs}
        first = {key: engine.take(key, array) for key, array in held.items()}
        assert all(engine.take(key, one) is one for key, one in first.items())
        made = engine.run(first)
        assert gpu.pinned_bytes == 0
        assert engine.device_ns == 250_000
        (tensor,) = made.values()
        assert engine.take(part.inputs[0], tensor) is tensor
        array = tensor.array()
        assert gpu.pinned_bytes == array.nbytes == tensor.nbytes
        assert opened.empty((3,), np.dtype(np.float32)).shape == (3,)
    with pytest.raises(BackendError, match="closed"):
        engine.run(first)


def test_two_loops_have_lanes_of_their_own(bundle: Bundle) -> None:
    engines = engines_of(bundle, FakeGpu())
    name = bundle.plan.parts[0].name
    with OpenedEngines(engines) as one, OpenedEngines(engines) as other:
        key = bundle.plan.parts[0].inputs[0]
        there = one[name].take(key, np.ones((1, 64), np.float32))
        assert isinstance(there.lane, TorchLane)
        assert other[name].take(key, there) is there  # read where it lies
        again = other[name].take(key, np.ones((1, 64), np.float32))
        assert isinstance(again.lane, TorchLane)
        assert again.lane is not there.lane


@pytest.mark.gpu
def test_steps_on_a_gpu(bundle: Bundle) -> None:
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no GPU here")
    steps = run_episode(
        bundle.plan, engines_of(bundle, Gpu()), 0, [bundle.golden("observation")] * 3
    )
    for step in steps:
        wanted = bundle.golden("action")["action"]
        np.testing.assert_allclose(step.action["action"], wanted, atol=1e-4)


def test_what_another_loop_s_engine_made_is_not_copied(bundle: Bundle) -> None:
    """A cut and the fallback beside it read one state."""
    gpu = FakeGpu(captures=False)
    engines = engines_of(bundle, gpu)
    with OpenedEngines(engines) as mine, OpenedEngines(engines) as others:
        part = next(part for part in bundle.plan.parts if part.phase == "decode")
        held = {key: np.ones((1, 64), np.float32) for key in part.inputs}
        (state,) = mine[part.name].run(held).values()
        there = {key: others[part.name].take(key, state) for key in part.inputs}
        assert all(one is state for one in there.values())
        (made,) = others[part.name].run(there).values()
        assert gpu.pinned_bytes == 0
        fed = dict.fromkeys(part.inputs, state.array())
        (wanted,) = engines[part.name].run(fed).values()
        np.testing.assert_array_equal(made.array(), wanted)
