"""State on a device, on a fake GPU: it stays there from one control step to the next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.cutting import Reference
from support.deployments import served
from support.fake_machine import fake_machine, looping_bundle
from support.programs import looping_program, observation

from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.engines import load_engines
from vlacut.side import Side
from vlacut_backends.tensorrt.engine_builder import TensorRTEngineBuilder

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
