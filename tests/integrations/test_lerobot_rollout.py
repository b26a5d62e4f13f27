"""`lerobot-rollout` of LeRobot 0.6, as it is installed, with a bundle as its policy.

`sh tools/lerobot` makes the environment that it needs, and runs it.
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
from support.foreign import NEWEST_LEROBOT_PYTHON, lerobot_installed, lerobot_variables
from support.pi_folders import JOINTS, lerobot_folder

import vlacut
from vlacut.frontends.lerobot.policy_folder import place_for, write_policy_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not NEWEST_LEROBOT_PYTHON.exists(), reason="sh tools/lerobot makes its environment"
    ),
]

SECONDS, RATE = 10, 30


@dataclass
class Served:
    """A policy's folder beside its server, and the environment of LeRobot's commands."""

    folder: Path
    cloud: str
    variables: dict[str, str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Of a pi0 that continues chunks."""
    folder = tmp_path_factory.mktemp("rollout")
    checkpoint, policy = lerobot_folder(folder / "pi0", "pi0"), place_for(folder / "policy")
    policy.parent.mkdir()
    machines = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "50MB/s,0.1ms"}
    vlacut.compile(
        f"lerobot:{checkpoint}", **machines, task="pick it", real_time_chunking="guided", out=policy
    )
    write_policy_folder(policy.parent, checkpoint)
    variables = {**lerobot_variables(), "HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}
    site = str(lerobot_installed(folder))
    variables["PYTHONPATH"] = os.pathsep.join([site, variables["PYTHONPATH"]])
    server = vlacut.serve(policy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Served(policy.parent, "{}:{}".format(*server.address), variables)
    finally:
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("inference", ["sync", "rtc"])
def test_lerobot_rollout_drives_a_robot(served: Served, tmp_path: Path, inference: str) -> None:
    """Under `rtc` chunks continue each other; every command is one, and no tick fails."""
    words = [
        f"--policy.path={served.folder}",
        f"--policy.cloud={served.cloud}",
        "--policy.checkpoint=",  # its own pi0 has 3 billion weights
        "--robot.type=counting",
        f"--robot.log={tmp_path / 'log'}",
        "--task=pick it",
        f"--inference.type={inference}",
        f"--duration={SECONDS}",
        f"--fps={RATE}",
        "--return_to_initial_position=false",
        "--play_sounds=false",
    ]
    done = subprocess.run(
        [NEWEST_LEROBOT_PYTHON.with_name("lerobot-rollout"), *words],
        capture_output=True,
        text=True,
        env=served.variables,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Fatal error in RTC thread" not in done.stderr
    assert "RTC inference error" not in done.stderr
    guided = "each chunk continues the commands that are left" in done.stderr
    assert guided == ("a chunk continues" in done.stderr) == (inference == "rtc")
    sent = np.array([one for _, one in json.loads((tmp_path / "log").read_text())])
    assert sent.shape[1] == JOINTS
    assert len(sent) > 2 * RATE  # how many there are is the machine's business
    assert np.isfinite(sent).all()
    assert len(np.unique(sent, axis=0)) > RATE
