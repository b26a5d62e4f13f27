"""The unmodified openpi-client drives a bundle whose cloud is killed and comes back."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from support.foreign import openpi_environment
from support.openpi import endpoint
from support.proxy import Proxy

import vlacut
from vlacut.api import Policy
from vlacut.integrations.fields import Field
from vlacut.integrations.openpi.policy import OpenpiPolicy

pytestmark = pytest.mark.slow  # it makes an environment, and runs 200 chunks

# openpi's own loop: `Runtime` asks the agent, the agent's broker asks the server for a chunk, and
# the environment is handed each action of it. Prints how many chunks there were, and their flags.
CLIENT = """
import json, sys
import numpy as np
from openpi_client import action_chunk_broker, websocket_client_policy
from openpi_client.runtime import environment, runtime
from openpi_client.runtime.agents import policy_agent

host, port, file, chunks = sys.argv[1:]
seen = dict(np.load(file))

class Robot(environment.Environment):
    actions = []
    def reset(self):
        pass
    def is_episode_complete(self):
        return len(self.actions) == int(chunks)
    def get_observation(self):
        return {**seen, "prompt": "pick up the fork"}
    def apply_action(self, action):
        self.actions.append(action)
        print(json.dumps({**action["policy_timing"], "shape": action["actions"].shape}), flush=True)

policy = websocket_client_policy.WebsocketClientPolicy(host, int(port))
broker = action_chunk_broker.ActionChunkBroker(policy, action_horizon=1)
robot = Robot()
runtime.Runtime(robot, policy_agent.PolicyAgent(broker), [], max_hz=100).run()
np.save(file + ".npy", robot.actions[-1]["actions"])
"""


def test_openpi_client_gets_200_chunks_through_the_death_of_a_cloud(
    split_bundle: Path, tmp_path: Path
) -> None:
    python = openpi_environment(tmp_path / "venv")
    server = vlacut.serve(split_bundle)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with Proxy(server.address) as proxy:
            address = f"127.0.0.1:{proxy.address[1]}"
            with vlacut.connect(split_bundle, address, deadline=0.2, timeout=1.0) as session:
                told, last = _drive(session, proxy, python, tmp_path)
                golden = session.bundle.golden("action")["action"]
    finally:
        server.shutdown()
        thread.join(20)
    assert len(told) == 200
    assert {tuple(one["shape"]) for one in told} == {(64,)}
    stale = [one["stale"] for one in told]
    assert not any(stale[:50])
    assert any(stale[50:])
    assert not any(stale[-20:])
    np.testing.assert_array_equal(last, golden[0])


def _drive(
    session: Policy, proxy: Proxy, python: str, tmp_path: Path
) -> tuple[list[dict[str, float]], np.ndarray]:
    """What the client was told of each action, and the last one; the cloud is away for a while."""
    file, back = tmp_path / "seen.npz", proxy.target
    golden = session.bundle.golden("observation")
    np.savez(file, **{name: array[0] for name, array in golden.items()})
    told: list[dict[str, float]] = []
    policy = OpenpiPolicy(session, fields=[Field("prompt", "")])
    with endpoint(policy) as server:
        words = [python, "-c", CLIENT, *map(str, server.address), str(file), "200"]
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as client:
            assert client.stdout is not None
            for line in client.stdout:
                told.append(json.loads(line))
                if len(told) == 50:
                    proxy.target = ("127.0.0.1", 9)
                    proxy.hang_up()
                if len(told) == 80:
                    proxy.target = back
            error = client.communicate()[1]
        assert client.returncode == 0, error
    return told, np.load(f"{file}.npy")
