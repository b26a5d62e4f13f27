"""The node on real ROS 2: rclpy of the package index, a robot in another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import onnxruntime
import pytest
from support.foreign import POLICIES, ROOT, ros_environment

import vlacut

MAP = """
bundle: {bundle}
rate_hz: 5
max_age_s: 5
inputs:
  pixel_values: {{topic: /front, type: sensor_msgs/msg/Image, span: [-1, 1]}}
  state: {{topic: /joints, type: sensor_msgs/msg/JointState, names: [{state}]}}
output: {{topic: /arm, names: [{joints}], period_s: 0.1}}
diagnostics: /diagnostics
"""


@pytest.mark.slow  # 180 MB of packages
def test_trajectories_come_of_topics(tmp_path: Path) -> None:
    python = ros_environment(tmp_path / "ros")
    vlacut.compile(
        "vit-mlp:tiny",
        edge="jetson-agx-orin",
        cloud="a100",
        link="1MB/s,50ms",  # so that the robot alone is best: no cloud is needed
        out=tmp_path / "policy.vlacut",
    )
    names = [", ".join(f"j{place}" for place in range(count)) for count in (8, 7)]
    said = MAP.format(bundle=tmp_path / "policy.vlacut", state=names[0], joints=names[1])
    (tmp_path / "map.yaml").write_text(said)
    ours = [str(ROOT), *(str(ROOT / one) for one in ("passes", "backends", "models"))]
    engines = str(Path(onnxruntime.__file__).parents[1])
    known = {
        **os.environ,
        # Behind its own packages, so that numpy is the environment's.
        "PYTHONPATH": os.pathsep.join([*ours, engines]),
        "ROS_DOMAIN_ID": "77",
        "ROS_LOCALHOST_ONLY": "1",
    }
    words = [python, "-m", "vlacut.integrations.ros2", "--config", tmp_path / "map.yaml"]
    with subprocess.Popen(words, env=known, stderr=subprocess.PIPE, text=True) as node:
        try:
            robot = [python, str(POLICIES / "ros_robot.py"), "3"]
            done = subprocess.run(robot, env=known, capture_output=True, text=True, check=False)
        finally:
            node.send_signal(signal.SIGINT)
            _, errors = node.communicate(timeout=60)
    assert done.returncode == 0, done.stderr + errors
    made = json.loads(done.stdout.splitlines()[-1])
    assert len(made["points"]) >= 3, errors
    assert set(made["points"]) == {4}
    assert made["joints"] == [[f"j{place}" for place in range(7)]]
    assert made["due"] == [[100_000_000, 200_000_000, 300_000_000, 400_000_000]]
    assert made["levels"][0] in (0, 1)
    assert node.returncode == 0, errors
