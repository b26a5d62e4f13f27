"""A recipe of the user's own, in a TOML file.

A fine-tuned policy has a configuration of its own in the user's copy of openpi; a TOML file says
what is different from one that is known:

    like = "pi0_libero"
    asset_id = "me/my_dataset"
    action_horizon = 16
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import tomllib

from vlacut.errors import ModelError, suggestion
from vlacut.frontends.openpi.recipes import RECIPES, ROBOTS, Recipe

_OWN = ("asset_id", "action_horizon", "max_token_len", "delta", "cameras", "prompt", "adapt_to_pi")


def read_recipe(text: str) -> Recipe:
    """The recipe that a name or a TOML file says.

    Raises ModelError naming what is not known, with the nearest name.
    """
    if not text.endswith(".toml"):
        return _known(text, f"--config {text}")
    file = Path(text)
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"--config {file}: cannot be read as TOML: {error}") from error
    like = said.pop("like", None)
    if not isinstance(like, str):
        raise ModelError(
            f"--config {file}: name the configuration that it is like, e.g. pi0_libero"
        )
    recipe, changed = _known(like, f"--config {file}: like {like}"), dict[str, Any]()
    for name, value in said.items():
        if name not in _OWN:
            raise ModelError(f"--config {file}: no setting {name!r:.60}; {suggestion(name, _OWN)}")
        before = getattr(recipe, name)
        made = tuple(value) if isinstance(value, list) else value
        kinds = {type(one) for one in made} if isinstance(made, tuple) else set()
        wanted = {bool} if name == "delta" else {str}
        if type(made) is not type(before) or (kinds and kinds != wanted):
            raise ModelError(
                f"--config {file}: {name} is {value!r:.60}, and is like {before!r:.60}"
            )
        changed[name] = made
    made_of = replace(recipe, name=file.stem, **changed)
    _check(made_of, file)
    return made_of


def _known(name: str, where: str) -> Recipe:
    if "fast" in name or "binning" in name or "_vq_" in name:
        raise ModelError(f"{where}: a policy that writes its actions as words is not compiled")
    if "low_mem" in name:
        raise ModelError(f"{where}: its LoRA is JAX's alone; merge it into the weights")
    if name not in RECIPES:
        raise ModelError(
            f"{where}: its transforms are code of openpi that is not known here; "
            f"{suggestion(name, RECIPES)}. A policy of your own is a .toml file with what is "
            f"different: like = 'pi0_libero', asset_id = ..., action_horizon = ..."
        )
    return RECIPES[name]


def _check(recipe: Recipe, file: Path) -> None:
    robot = ROBOTS[recipe.robot]
    if not 0 < recipe.action_horizon <= 1000 or not 0 <= recipe.max_token_len <= 4096:
        raise ModelError(f"--config {file}: action_horizon or max_token_len is out of range")
    if len(recipe.delta) > robot.commands:
        raise ModelError(
            f"--config {file}: delta has more joints than a command's {robot.commands}"
        )
    if recipe.adapt_to_pi and recipe.robot != "aloha":
        raise ModelError(f"--config {file}: adapt_to_pi is of Aloha's joints, not {recipe.robot}'s")
    for name in recipe.cameras:
        if name not in robot.cameras:
            raise ModelError(
                f"--config {file}: no camera {name!r:.60} of {recipe.robot}; "
                f"{suggestion(name, robot.cameras)}"
            )
    ordered = tuple(name for name in robot.cameras if name in recipe.cameras)
    if recipe.cameras != ordered:
        raise ModelError(
            f"--config {file}: the model reads cameras by their place, each once; write "
            f"{', '.join(ordered)}"
        )
