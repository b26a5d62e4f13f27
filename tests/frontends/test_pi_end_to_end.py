"""Checkpoints of pi0 and pi05 compiled, cut, served, and driven by what openpi's client sends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.pi_folders import CAMERA, lerobot_folder, openpi_folder

import vlacut
from vlacut.integrations.fields import parse_field
from vlacut.integrations.openpi.policy import OpenpiPolicy

MACHINES = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "50MB/s,0.1ms"}
pytestmark = pytest.mark.slow  # four phases are traced


@contextmanager
def served_by(bundle: Path) -> Iterator[str]:
    server = vlacut.serve(bundle)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield "{}:{}".format(*server.address)
    finally:
        server.shutdown()
        thread.join()


def test_openpi_s_observation_drives_a_bundle_of_its_checkpoint(tmp_path: Path) -> None:
    folder = openpi_folder(tmp_path / "c", "pi05", "me/mine", 8, 8)
    (tmp_path / "own.toml").write_text(
        'like = "pi05_droid"\nasset_id = "me/mine"\naction_horizon = 10\n'
    )
    out, seen = tmp_path / "pi05.vlacut", "observation/exterior_image_1_left"
    vlacut.compile(
        f"openpi:{folder}",
        config=tmp_path / "own.toml",
        task="pick it up",
        shapes={seen: (180, 320, 3)},
        out=out,
        **MACHINES,
    )
    assert all(one.passed for one in vlacut.verify(out))
    numbers = np.random.default_rng(0)
    observation = {
        seen: numbers.integers(0, 256, (180, 320, 3), dtype=np.uint8),
        "observation/wrist_image_left": numbers.integers(0, 256, (224, 224, 3), dtype=np.uint8),
        "observation/joint_position": numbers.random(7),
        "observation/gripper_position": numbers.random(1),
        "prompt": "pick it up",
    }
    with served_by(out) as address, vlacut.connect(out, address) as session:
        policy = OpenpiPolicy(session, fields=[parse_field("prompt=")])
        actions = policy.infer(observation)["actions"]
    assert actions.shape == (10, 8)


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_a_checkpoint_of_lerobot_s_runs_and_verifies(tmp_path: Path, kind: str) -> None:
    folder, out = lerobot_folder(tmp_path / "pretrained_model", kind), tmp_path / "x.vlacut"
    bundle = vlacut.compile(f"lerobot:{folder}", task="pick it up", out=out, **MACHINES)
    assert bundle.manifest.model_check.difference <= 1e-5 * bundle.manifest.model_check.magnitude
    assert bundle.golden("observation")[CAMERA].dtype == np.uint8
    with served_by(out) as address, vlacut.connect(out, address) as session:
        action = session.step(bundle.golden("observation"))["action"]
    np.testing.assert_array_equal(action, bundle.golden("action")["action"])
