"""Recipes: what openpi's configurations say by their names.

A recipe names a robot, of `ROBOTS`, whose transforms are known here, and the settings of the model.

Source: Physical-Intelligence/openpi, src/openpi/training/config.py and misc/polaris_config.py,
src/openpi/policies/{droid,libero,aloha}_policy.py, of 2026-06.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PI0, PI05 = "pi0", "pi05"


@dataclass(frozen=True)
class Robot:
    """What a client sends, in the order in which the model reads it.

    Attributes:
        cameras: its keys of pictures: base, left wrist, right wrist; what is missing is masked.
        vectors: keys of the state, and the numbers of each.
        commands: numbers in a command.
    """

    cameras: tuple[str, ...]
    vectors: Mapping[str, int]
    commands: int


ROBOTS = {
    "droid": Robot(
        ("observation/exterior_image_1_left", "observation/wrist_image_left"),
        {"observation/joint_position": 7, "observation/gripper_position": 1},
        8,
    ),
    "libero": Robot(("observation/image", "observation/wrist_image"), {"observation/state": 8}, 7),
    "aloha": Robot(
        ("images/cam_high", "images/cam_left_wrist", "images/cam_right_wrist"), {"state": 14}, 14
    ),
}


@dataclass(frozen=True)
class Recipe:
    """A configuration.

    Attributes:
        name: of it.
        model: `PI0` or `PI05`.
        robot: of `ROBOTS`.
        asset_id: folder of its statistics in `assets`.
        action_horizon: commands in a chunk.
        max_token_len: tokens in the padded prompt; 0 for 48 of pi0, 200 of pi05.
        writes_state: whether pi05's prompt has the state in it.
        delta: joints whose commands are relative to the state; empty where none are.
        adapt_to_pi: whether Aloha's joints are turned to the base model's.
        cameras: of the robot; empty for all of them.
        prompt: the task, where none is given.
    """

    name: str
    model: str
    robot: str
    asset_id: str
    action_horizon: int = 50
    max_token_len: int = 0
    writes_state: bool = True
    delta: tuple[bool, ...] = ()
    adapt_to_pi: bool = False
    cameras: tuple[str, ...] = ()
    prompt: str = ""

    @property
    def tokens(self) -> int:
        """Tokens in the padded prompt."""
        return self.max_token_len or (200 if self.model == PI05 else 48)


_ARM = (True,) * 6
_ALOHA, _LIBERO, _DROID = (*_ARM, False) * 2, (*_ARM, False), (True,) * 7 + (False,)


def _aloha(name: str, prompt: str = "", **more: Any) -> Recipe:
    model, asset = (PI05 if name.startswith("pi05") else PI0), more.pop("asset_id", "trossen")
    delta = more.pop("delta", _ALOHA)
    return Recipe(name, model, "aloha", asset, delta=delta, adapt_to_pi=True, prompt=prompt, **more)


def _droid(name: str, horizon: int, **more: Any) -> Recipe:
    model = PI05 if name.startswith("pi05") else PI0
    return Recipe(name, model, "droid", "droid", horizon, **more)


_DATA = "physical-intelligence/libero"
_RECIPES = (
    _aloha("pi0_aloha"),
    _aloha("pi05_aloha"),
    _aloha("pi0_aloha_towel", "fold the towel"),
    _aloha("pi0_aloha_tupperware", "open the tupperware and put the food on the plate"),
    _aloha("pi0_aloha_pen_uncap", "uncap the pen"),
    _aloha("pi05_aloha_pen_uncap", "uncap the pen"),
    _aloha(
        "pi0_aloha_sim",
        "Transfer cube",
        asset_id="lerobot/aloha_sim_transfer_cube_human",
        delta=(),
        cameras=("images/cam_high",),
    ),
    _droid("pi0_droid", 10),
    _droid("pi05_droid", 15),
    _droid("pi05_droid_finetune", 16),
    _droid("pi05_full_droid_finetune", 16, delta=_DROID),
    _droid("pi05_droid_jointpos_polaris", 15, delta=_DROID),
    _droid("pi0_droid_jointpos_polaris", 10, max_token_len=100, delta=_DROID),
    _droid("pi0_droid_jointpos_100k_polaris", 10, max_token_len=100, delta=_DROID),
    Recipe("pi0_libero", PI0, "libero", _DATA, delta=_LIBERO),
    Recipe("pi05_libero", PI05, "libero", _DATA, 10, writes_state=False),
)
RECIPES = {one.name: one for one in _RECIPES}
