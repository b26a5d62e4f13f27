"""LeRobot's unmodified `RobotClient`, at 30 Hz for 30 s: no tick is without a command.

`sh tools/lerobot` makes the environment that it needs, and runs it.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support.foreign import LEROBOT_PYTHON, lerobot_variables
from support.lerobot_wire import Played, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not LEROBOT_PYTHON.exists(), reason="sh tools/lerobot makes its environment"
    ),
]

SECONDS, RATE = 30, 30

# A robot that only counts, in the place of the one that a user names; the client is LeRobot's.
CLIENT = """
import json, sys, threading, time
from types import SimpleNamespace
import numpy as np
import lerobot.async_inference.robot_client as theirs

class Robot:
    observation_features = {"a.pos": float, "b.pos": float, "front": (8, 10, 3)}
    action_features = {"a.pos": float, "b.pos": float}
    sent = []
    def connect(self): pass
    def disconnect(self): pass
    def get_observation(self):
        return {"a.pos": 1.0, "b.pos": 2.0, "front": np.zeros((8, 10, 3), np.uint8)}
    def send_action(self, action):
        self.sent.append((time.perf_counter(), action))
        return action

address, seconds, rate = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
robot = Robot()
theirs.make_robot_from_config = lambda config: robot
client = theirs.RobotClient(SimpleNamespace(
    robot=None, server_address=address, policy_type="act", pretrained_name_or_path="x",
    actions_per_chunk=20, policy_device="cpu", client_device="cpu", chunk_size_threshold=0.5,
    fps=rate, environment_dt=1 / rate, aggregate_fn=lambda old, new: new,
))
assert client.start()
threading.Thread(target=client.receive_actions, daemon=True).start()
threading.Timer(seconds, client.shutdown_event.set).start()
client.control_loop(task="fold")
client.stop()
print(json.dumps({"first": robot.sent[0][1], "queue": client.action_queue_size}))
"""


class Longer(Played):
    horizon = 20


def test_the_robot_client_is_never_without_a_command(tmp_path: Path) -> None:
    with serving(Longer(), rate=float(RATE)) as (server, _):
        words = ["-c", CLIENT, "{}:{}".format(*server.address), str(SECONDS), str(RATE)]
        how = {"env": lerobot_variables(), "cwd": tmp_path}  # it writes its log where it is
        done = subprocess.run([LEROBOT_PYTHON, *words], capture_output=True, text=True, **how)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["first"] == {"a.pos": 1.0, "b.pos": 2.0}
    # A command is taken wherever there is one; what it counts is how many there were.
    assert len(found["queue"]) > 0.8 * SECONDS * RATE
    assert min(found["queue"][RATE:]) >= 1
