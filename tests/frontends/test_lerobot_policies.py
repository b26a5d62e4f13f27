"""Checkpoints that LeRobot's own code saved: compiled, and compared with its own policy.

`sh tools/lerobot` makes the environment that they need, and runs them.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from support.foreign import LEROBOT_PYTHON, POLICIES, lerobot_variables

import vlacut
from vlacut.frontends.lerobot.policy_folder import place_for, write_policy_folder

# Of the largest magnitude of the action. Rounding alone: another order of the same sums.
BOUND = 1e-5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not LEROBOT_PYTHON.exists(), reason="sh tools/lerobot makes its environment"
    ),
]


@pytest.mark.parametrize(
    ("kind", "task"), [("act", ""), ("diffusion", ""), ("smolvla", "fold the shirt")]
)
def test_a_checkpoint_is_its_own_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, task: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", lerobot_variables()["PYTHONPATH"])
    make = [LEROBOT_PYTHON, POLICIES / "lerobot_checkpoints.py", kind, tmp_path]
    done = subprocess.run(make, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    policy = place_for(tmp_path / "policy")
    policy.parent.mkdir()
    bundle = vlacut.compile(
        f"lerobot:{tmp_path / 'pretrained_model'}",
        task=task,
        original=LEROBOT_PYTHON,
        edge="jetson-agx-orin",
        cloud="a100",
        link="50MB/s,0.1ms",
        out=policy,
    )
    write_policy_folder(policy.parent, tmp_path / "pretrained_model")
    checked = bundle.manifest.model_check
    assert checked.against == "LeRobot 0.4.4's own policy"
    assert checked.difference <= BOUND * checked.magnitude
    observation = bundle.golden("observation")
    assert observation["observation.images.front"].dtype == np.uint8
    server = vlacut.serve(policy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = "{}:{}".format(*server.address)
    try:
        with vlacut.connect(policy, address) as robot:
            action = robot.step(observation)["action"]
        if kind != "smolvla":
            commands = as_a_plugin(tmp_path, address, observation)
    finally:
        server.shutdown()
        thread.join()
    np.testing.assert_array_equal(action, bundle.golden("action")["action"])
    if kind == "act":  # of others the plugin draws the noise
        np.testing.assert_array_equal(commands, action[: len(commands)])


def as_a_plugin(folder: Path, address: str, observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """Commands of the plugin: LeRobot's own factories make its policy, and it finds its first
    actions to be those of LeRobot's own.
    """
    np.savez(folder / "observation.npz", **dict(observation))
    words = [folder / "policy", address]
    script = POLICIES / "lerobot_plugin.py"
    done = subprocess.run(
        [LEROBOT_PYTHON, script, folder / "observation.npz", *words],
        capture_output=True,
        text=True,
        env=lerobot_variables(),
    )
    assert done.returncode == 0, done.stderr
    assert "the bundle's first actions differ from LeRobot's own by" in done.stderr
    assert "drives on" not in done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1]), np.float32)
