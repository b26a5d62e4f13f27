"""Environments with other people's packages, as their users have them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

# openpi-client pins numpy below 2, and needs typing_extensions without saying so.
OPENPI = ("numpy==2.2.6", "msgpack", "websockets", "dm-tree", "pillow", "typing_extensions")

# rclpy of Kilted, and the messages that the node and its robot have; its wheels are not ROS's own.
ROS = ("ros-rclpy[fastrtps]", "ros-sensor-msgs", "ros-trajectory-msgs", "ros-diagnostic-msgs")

POLICIES = Path(__file__).parent / "policies"
ROOT = Path(__file__).parents[2]
LEROBOT_PYTHON = ROOT / ".venv-lerobot" / "bin" / "python"
NEWEST_LEROBOT_PYTHON = ROOT / ".venv-lerobot-rollout" / "bin" / "python"
LEROBOT_PLUGIN = ROOT / "tools" / "lerobot_policy_vlacut"


def lerobot_variables() -> dict[str, str]:
    """The variables of a process of the environment that `sh tools/lerobot` makes."""
    ours = (ROOT, *(ROOT / name for name in ("passes", "backends", "models")), LEROBOT_PLUGIN)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (POLICIES / "lerobot_site", *ours))),
    }


def lerobot_installed(folder: Path) -> Path:
    """A folder with the plugin and the robot for LeRobot's commands, as pip puts them there."""
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(words, cwd=LEROBOT_PLUGIN, capture_output=True, check=True)
    site = folder / "site"
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(site)
    robot = "lerobot_robot_counting"
    (site / f"{robot}.py").write_bytes((POLICIES / f"{robot}.py").read_bytes())
    (site / f"{robot}-0.dist-info").mkdir()
    said = f"Metadata-Version: 2.1\nName: {robot}\nVersion: 0\n"
    (site / f"{robot}-0.dist-info" / "METADATA").write_text(said)
    return site


def openpi_environment(folder: Path) -> str:
    """The interpreter of a new environment with the unmodified openpi-client."""
    python = _environment(folder, OPENPI)
    _install(python, "--no-deps", "openpi-client==0.1.2")
    return python


def ros_environment(folder: Path) -> str:
    """The interpreter of a new environment with rclpy."""
    return _environment(folder, ROS)


def _environment(folder: Path, packages: tuple[str, ...]) -> str:
    """The interpreter of a new environment with packages of the index."""
    words = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(words, check=True, capture_output=True)
    python = str(folder / "bin" / "python")
    _install(python, *packages)
    return python


def _install(python: str, *words: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *words]
    done = subprocess.run(pip, capture_output=True, text=True)
    if "Could not find a version" in done.stderr or "No matching distribution" in done.stderr:
        pytest.skip(f"no package index has {' '.join(words)}")
    assert done.returncode == 0, done.stderr
