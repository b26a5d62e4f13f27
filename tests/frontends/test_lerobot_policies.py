"""Checkpoints that LeRobot's own code saved: compiled, and compared with its own policy.

`sh tools/lerobot` makes the environment that they need, and runs them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.foreign import LEROBOT_PYTHON, POLICIES, lerobot_variables

import vlacut

# Of the largest magnitude of the action. Rounding alone: another order of the same sums.
BOUND = 1e-5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not LEROBOT_PYTHON.exists(), reason="sh tools/lerobot makes its environment"
    ),
]


@pytest.mark.parametrize(("kind", "task"), [("act", ""), ("smolvla", "fold the shirt")])
def test_a_checkpoint_is_its_own_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, task: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", lerobot_variables()["PYTHONPATH"])
    make = [LEROBOT_PYTHON, POLICIES / "lerobot_checkpoints.py", kind, tmp_path]
    done = subprocess.run(make, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    bundle = vlacut.compile(
        f"lerobot:{tmp_path / 'pretrained_model'}",
        task=task,
        original=LEROBOT_PYTHON,
        edge="jetson-agx-orin",
        cloud="a100",
        link="50MB/s,0.1ms",
        out=tmp_path / "policy.vlacut",
    )
    checked = bundle.manifest.model_check
    assert checked.against == "LeRobot 0.4.4's own policy"
    assert checked.difference <= BOUND * checked.magnitude
    observation = bundle.golden("observation")
    assert observation["observation.images.front"].dtype == np.uint8
    with vlacut.connect(tmp_path / "policy.vlacut", None) as robot:
        action = robot.step(observation)["action"]
    np.testing.assert_array_equal(action, bundle.golden("action")["action"])
