"""State on a device, on a fake GPU: it stays there from one control step to the next."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.cutting import Reference
from support.deployments import served
from support.fake_machine import bundle_with_fallback, fake_machine, looping_bundle
from support.programs import looping_program, observation

from vlacut.hardware import Side
from vlacut.runtime.edge.report import Source
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.engines import load_engines
from vlacut_backends.cuda.lane import DeviceTensor, Lane
from vlacut_backends.tensorrt.engine_builder import TensorRTEngineBuilder
from vlacut_backends.tensorrt.execute import OpenTensorRTEngine

if TYPE_CHECKING:
    from fakes.fake_cuda import FakeDriver

WARM = 6  # steps until every address has been seen twice


def copies(gpu: FakeDriver) -> dict[str, int]:
    names = ("cuMemcpyDtoHAsync_v2", "cuMemcpyHtoDAsync_v2", "cuMemAlloc_v2", "cuMemHostAlloc")
    return {name: gpu.calls.count(name) for name in names}


def test_state_stays_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step copies what crosses, the observation and the action: nothing of what it remembers."""
    bundle = looping_bundle(tmp_path, remembers=True)
    plan = bundle.plan
    assert plan.state_uses[0].reads[Side.CLOUD] == {"state"}
    with fake_machine(monkeypatch, tmp_path / "engines") as gpu:
        for side in Side:
            TensorRTEngineBuilder().build(bundle, side, "", lambda *_: None)
        edge, cloud = (load_engines(bundle, side) for side in Side)
        program = looping_program()
        state = np.zeros((1, 64), np.float32)
        reference = Reference(program)
        with (
            served(plan, cloud, bundle.digest) as server,
            EdgeSession(plan, bundle.digest, edge, server.address) as session,
        ):
            for step in range(WARM + 3):
                image = observation(program, step)["image"]
                before = copies(gpu)
                action = session.step({"image": image})["action"]
                state = reference.step({"image": image, "state": state})["action"]
                np.testing.assert_allclose(action, state, rtol=1e-4, atol=1e-5)
                spent = {name: count - before[name] for name, count in copies(gpu).items()}
            # Down: embed, active, features, action, of which all but the action go up again; up
            # besides: the image.
            assert spent == {
                "cuMemcpyDtoHAsync_v2": 4,
                "cuMemcpyHtoDAsync_v2": 4,
                "cuMemAlloc_v2": 0,
                "cuMemHostAlloc": 0,
            }


class EdgeCopies:
    """What the lanes of the edge copied since the last time: those that were given an image."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._noted: list[tuple[Lane, str]] = []
        upload, start = Lane.upload, DeviceTensor.start

        def note_upload(lane: Lane, key: str, array: np.ndarray) -> DeviceTensor:
            self._noted.append((lane, f"{key} up"))
            return upload(lane, key, array)

        def note_start(tensor: DeviceTensor) -> None:
            if tensor._array is None and tensor._due < 0:
                self._noted.append((tensor.lane, "down"))
            start(tensor)

        patch.setattr(Lane, "upload", note_upload)
        patch.setattr(DeviceTensor, "start", note_start)
        self._mine: set[Lane] = set()

    def spent(self) -> Counter[str]:
        noted, self._noted = self._noted, []
        self._mine |= {lane for lane, what in noted if what == "image up"}
        return Counter(what for lane, what in noted if lane in self._mine)


@pytest.mark.parametrize("hedge", [False, True])
def test_state_stays_on_the_device_when_the_fallback_takes_over(
    hedge: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sets of engines read one state; a step of either copies the image, what crosses the
    link, and the action.
    """
    bundle = bundle_with_fallback(tmp_path, monkeypatch)
    plan = bundle.plan
    assert [use.reads[Side.EDGE] for use in plan.state_uses] == [{"state"}, {"state"}]
    alone = [2, 3, 6, 7, 8]
    with fake_machine(monkeypatch, tmp_path / "engines"):
        for side in Side:
            TensorRTEngineBuilder().build(bundle, side, "", lambda *_: None)
        edge, cloud = (load_engines(bundle, side) for side in Side)
        there = {part.name for part in plan.parts if part.side is Side.CLOUD}
        go, run = threading.Event(), OpenTensorRTEngine.run

        def run_in_time(engine: OpenTensorRTEngine, inputs: Any) -> Any:
            assert engine._part.name not in there or go.wait(20)
            return run(engine, inputs)

        monkeypatch.setattr(OpenTensorRTEngine, "run", run_in_time)
        copied = EdgeCopies(monkeypatch)
        program = looping_program()
        state, reference = np.zeros((1, 64), np.float32), Reference(program)
        sources = []
        with (
            served(plan, cloud, bundle.digest) as server,
            EdgeSession(
                plan, bundle.digest, edge, server.address, deadline=0.7, hedge=hedge
            ) as policy,
        ):
            for step in range(11):
                if step in alone:
                    go.clear()
                else:
                    go.set()
                copied.spent()
                image = observation(program, step)["image"]
                action = policy.step({"image": image})["action"]
                spent = copied.spent()
                state = reference.step({"image": image, "state": state})["action"]
                np.testing.assert_allclose(action, state, rtol=1e-4, atol=1e-5)
                sources.append(policy.last.source)
                states = [what for what in spent if what.endswith("state up")]
                assert bool(states) == (step == 0), (step, spent)  # at first it is the host's
                made_alone = policy.last.source is Source.ALONE
                # What crosses, and the action; of a hedge, where both came so far, its action too.
                assert spent["down"] <= 2 + hedge, (step, spent)
                assert spent["down"] >= 2 or made_alone
                assert spent["image up"] == 1 + made_alone or hedge
            go.set()
        assert {sources[step] for step in alone} == {Source.ALONE}
        assert Source.CHOSEN in sources
