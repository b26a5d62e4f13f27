"""LeRobot's own commands, as they are installed, with a bundle as their policy.

`sh tools/lerobot` makes the environment that they need, and runs them.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support.foreign import LEROBOT_PYTHON, POLICIES, lerobot_installed, lerobot_variables

import vlacut
from vlacut.frontends.lerobot.policy_folder import place_for, write_policy_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not LEROBOT_PYTHON.exists(), reason="sh tools/lerobot makes its environment"
    ),
]

SECONDS, RATE = 30, 30
PLAYED = 8  # commands of a chunk, see `lerobot_checkpoints.act`


@dataclass
class Served:
    """A policy's folder beside its server, and the environment that takes it.

    Attributes:
        folder: for `--policy.path`.
        cloud: for `--policy.cloud`.
        chunk: what the bundle makes of what the robot sees, [PLAYED, n].
        variables: of the commands' processes.
    """

    folder: Path
    cloud: str
    chunk: np.ndarray
    variables: dict[str, str]

    def run(self, command: str, *words: str) -> str:
        """What a command of LeRobot's said; it must end well, and use the bundle to its end."""
        policy = [f"--policy.path={self.folder}", f"--policy.cloud={self.cloud}"]
        done = subprocess.run(
            [str(LEROBOT_PYTHON.with_name(command)), *policy, *words],
            capture_output=True,
            text=True,
            env=self.variables,
            cwd=self.folder.parent,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        assert "the bundle's first actions differ from LeRobot's own by" in done.stderr
        assert "drives on" not in done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("lerobot")
    variables = {**lerobot_variables(), "HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}
    make = [LEROBOT_PYTHON, POLICIES / "lerobot_checkpoints.py", "act", folder]
    subprocess.run(make, capture_output=True, env=variables, check=True)
    checkpoint, policy = folder / "pretrained_model", place_for(folder / "policy")
    policy.parent.mkdir()
    machines = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "50MB/s,0.1ms"}
    vlacut.compile(f"lerobot:{checkpoint}", **machines, out=policy)
    write_policy_folder(policy.parent, checkpoint)
    variables["PYTHONPATH"] = os.pathsep.join(
        [str(lerobot_installed(folder)), variables["PYTHONPATH"]]
    )
    server = vlacut.serve(policy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    cloud = "{}:{}".format(*server.address)
    try:
        yield Served(policy.parent, cloud, played(policy, cloud), variables)
    finally:
        server.shutdown()
        thread.join()


def played(policy: Path, cloud: str) -> np.ndarray:
    rows = np.arange(48 * 64 * 3).reshape(48, 64, 3)
    names = ("front", "wrist")
    seen = {
        f"observation.images.{name}": (rows * (7 + place) % 251).astype(np.uint8)
        for place, name in enumerate(names)
    }
    state = np.array([0.1 * joint for joint in range(6)], np.float32)
    with vlacut.connect(policy, cloud) as robot:
        made = robot.step({**seen, "observation.state": state})["action"]
    return np.asarray(made[:PLAYED])


def commands(log: Path, chunk: np.ndarray) -> int:
    """How many a robot got, each of them the one that is due in that tick."""
    sent = np.array([one for _, one in json.loads(log.read_text())], np.float32)
    wanted = chunk[np.arange(len(sent)) % len(chunk)]
    np.testing.assert_array_equal(sent, wanted)
    return len(sent)


def test_lerobot_record_has_a_command_in_every_tick(served: Served, tmp_path: Path) -> None:
    served.run(
        "lerobot-record",
        "--robot.type=counting",
        f"--robot.log={tmp_path / 'log'}",
        "--dataset.repo_id=me/eval_counting",
        f"--dataset.root={tmp_path / 'data'}",
        "--dataset.single_task=fold",
        f"--dataset.fps={RATE}",
        f"--dataset.episode_time_s={SECONDS}",
        "--dataset.num_episodes=1",
        "--dataset.push_to_hub=false",
        "--dataset.vcodec=h264",
        "--play_sounds=false",
    )
    count = commands(tmp_path / "log", served.chunk)
    assert count > 3 * PLAYED  # how many there are is the machine's business
    info = json.loads((tmp_path / "data" / "meta" / "info.json").read_text())
    assert info["total_frames"] == count


def test_lerobot_eval_plays_an_episode(served: Served, tmp_path: Path) -> None:
    served.run(
        "lerobot-eval",
        "--env.type=counting",
        f"--env.log={tmp_path / 'log'}",
        "--eval.n_episodes=1",
        "--eval.batch_size=1",
        f"--output_dir={tmp_path / 'out'}",
    )
    assert commands(tmp_path / "log", served.chunk) == 20
    said = json.loads((tmp_path / "out" / "eval_info.json").read_text())
    assert said["overall"]["pc_success"] == 100
