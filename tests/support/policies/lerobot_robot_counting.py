"""A robot and an environment of LeRobot's that stand still, and write down what they are told.

LeRobot's commands take them as `--robot.type=counting` and `--env.type=counting`, as it takes a
plugin of anybody's. What was sent is in the file `log`, JSON: seconds and commands of each tick.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.robots import Robot, RobotConfig

CAMERAS, SIZE, JOINTS = ("front", "wrist"), (48, 64, 3), 6
STATE = [0.1 * joint for joint in range(JOINTS)]


def pictures() -> dict[str, np.ndarray]:
    """What the cameras see, always."""
    rows = np.arange(np.prod(SIZE), dtype=np.int64).reshape(SIZE)
    return {name: (rows * (7 + place) % 251).astype(np.uint8) for place, name in enumerate(CAMERAS)}


@RobotConfig.register_subclass("counting")
@dataclass(kw_only=True)
class CountingRobotConfig(RobotConfig):
    log: str = ""
    cameras: dict[str, Any] = field(default_factory=dict)


class CountingRobot(Robot):
    config_class = CountingRobotConfig
    name = "counting"

    def __init__(self, config: CountingRobotConfig) -> None:
        super().__init__(config)
        self.config, self.cameras = config, dict.fromkeys(CAMERAS)
        self._sent: list[tuple[float, list[float]]] = []
        self._connected = False

    @property
    def action_features(self) -> dict[str, type]:
        return {f"j{joint}.pos": float for joint in range(JOINTS)}

    @property
    def observation_features(self) -> dict[str, Any]:
        return {**self.action_features, **dict.fromkeys(CAMERAS, SIZE)}

    @property
    def is_connected(self) -> bool:
        return self._connected

    @property
    def is_calibrated(self) -> bool:
        return True

    def calibrate(self) -> None:
        pass

    def configure(self) -> None:
        pass

    def connect(self, calibrate: bool = True) -> None:
        self._connected = True

    def get_observation(self) -> dict[str, Any]:
        return {**dict(zip(self.action_features, STATE, strict=True)), **pictures()}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        self._sent.append((time.perf_counter(), [float(action[name]) for name in action]))
        return action

    def disconnect(self) -> None:
        self._connected = False
        Path(self.config.log).write_text(json.dumps(self._sent))


@EnvConfig.register_subclass("counting")
@dataclass
class CountingEnvConfig(EnvConfig):
    task: str | None = "counting-v0"
    episode_length: int = 20
    log: str = ""
    features: dict[str, PolicyFeature] = field(
        default_factory=lambda: {
            "action": PolicyFeature(FeatureType.ACTION, (JOINTS,)),
            "agent_pos": PolicyFeature(FeatureType.STATE, (JOINTS,)),
            **{f"pixels/{name}": PolicyFeature(FeatureType.VISUAL, SIZE) for name in CAMERAS},
        }
    )
    features_map: dict[str, str] = field(
        default_factory=lambda: {
            "action": "action",
            "agent_pos": "observation.state",
            **{f"pixels/{name}": f"observation.images.{name}" for name in CAMERAS},
        }
    )

    @property
    def gym_id(self) -> str:
        return "counting-v0"

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        return {"length": self.episode_length, "log": self.log}


class CountingEnv(gymnasium.Env):  # type: ignore[misc]
    metadata: ClassVar = {"render_fps": 30, "render_modes": ["rgb_array"]}
    render_mode = "rgb_array"

    def __init__(self, length: int, log: str) -> None:
        self._length, self._log = length, log
        self._sent: list[list[float]] = []
        box = gymnasium.spaces.Box
        self._max_episode_steps = length
        self.task = self.task_description = "fold"
        self.action_space = box(-np.inf, np.inf, (JOINTS,), np.float32)
        pixels = {name: box(0, 255, SIZE, np.uint8) for name in CAMERAS}
        self.observation_space = gymnasium.spaces.Dict(
            agent_pos=box(-np.inf, np.inf, (JOINTS,), np.float32),
            pixels=gymnasium.spaces.Dict(pixels),
        )

    def _seen(self) -> dict[str, Any]:
        return {"agent_pos": np.array(STATE, np.float32), "pixels": pictures()}

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self._sent = []
        return self._seen(), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._sent.append([float(one) for one in action])
        Path(self._log).write_text(json.dumps([(0.0, one) for one in self._sent]))
        ended = len(self._sent) >= self._length
        return self._seen(), 1.0, ended, ended, {"is_success": ended}

    def render(self) -> np.ndarray:
        return pictures()["front"]


gymnasium.register("counting-v0", CountingEnv)
