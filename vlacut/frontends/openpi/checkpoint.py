"""A checkpoint folder of openpi's, opened: weights, statistics and prompt.

DIR/model.safetensors, DIR/assets/ASSET_ID/norm_stats.json, and for a prompt tokenizer.json
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from vlacut.errors import ModelError
from vlacut.frontends.checkpoint import open_checkpoint
from vlacut.frontends.json_files import read_json
from vlacut.frontends.onnx import Shapes
from vlacut.frontends.openpi.recipes import PI05, ROBOTS, Recipe
from vlacut.frontends.prompts.tokens import Prompt, Tokens, open_tokens
from vlacut.frontends.prompts.written import clean, written_state

WEIGHTS = "model.safetensors"
TOKENS, MASK = "tokenized_prompt", "tokenized_prompt_mask"
STATE, ACTIONS = "state", "actions"
_HUB = "google/paligemma-3b-pt-224"
_SIZE = 224
_LARGEST = float(np.finfo(np.float32).max) / 4  # of a statistic, so that spans are finite, too


@dataclass(frozen=True)
class Scale:
    """How a vector is normalised: (x - first) / span, and for pi05 from 0 .. 1 to -1 .. 1.

    Attributes:
        first, span: float32 [n]: mean and deviation, or a quantile and the way to the other.
        signed: whether it goes from -1 to 1.
    """

    first: np.ndarray
    span: np.ndarray
    signed: bool


@dataclass(frozen=True)
class OpenpiCheckpoint:
    """What a folder and a recipe say.

    Attributes:
        folder: of the checkpoint.
        recipe: that it was trained by.
        cameras: keys of the pictures.
        scales: of `STATE` and `ACTIONS`.
        prompt: the task as tokens.
        sizes: height and width of pictures by their keys.
    """

    folder: Path
    recipe: Recipe
    cameras: tuple[str, ...]
    scales: Mapping[str, Scale]
    prompt: Prompt
    sizes: Mapping[str, tuple[int, int]]

    def examples(self) -> dict[str, Tensor]:
        """An example of every input, as the client has it: pictures uint8 [H, W, 3] of noise,
        vectors near the middle of their statistics.
        """
        numbers, made = torch.Generator().manual_seed(0), {}
        for name in self.cameras:
            shape = (*self.sizes[name], 3)
            made[name] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=numbers)
        scale, place = self.scales[STATE], 0
        first, span = torch.from_numpy(scale.first), torch.from_numpy(scale.span)
        for name, count in ROBOTS[self.recipe.robot].vectors.items():
            drawn = torch.rand(count, generator=numbers)
            part = slice(place, place + count)
            made[name], place = first[part] + drawn * span[part], place + count
        return made

    def weights(self) -> dict[str, Tensor]:
        """The tensors of the file by name; mapped, not read."""
        file = self.folder / WEIGHTS
        open_checkpoint([file])  # which says what is wrong with the file
        return load_file(file)


def open_folder(folder: Path, recipe: Recipe, shapes: Shapes, task: str) -> OpenpiCheckpoint:
    """Read what a folder says; weights are read later.

    Args:
        folder: of a checkpoint in PyTorch.
        recipe: of its configuration.
        shapes: of pictures of another size than 224, [height, width, 3], by the client's key.
        task: the prompt; empty for the recipe's, or for one that is an input.

    Raises ModelError naming what is wrong, or not known.
    """
    if not (folder / WEIGHTS).is_file():
        jax = (folder / "params").is_dir()
        raise ModelError(
            f"{folder}: has no {WEIGHTS}"
            + ("; it is JAX's: openpi's examples/convert_jax_model_to_pytorch.py makes it" * jax)
        )
    if (folder / "config.json").is_file():
        said = read_json(folder / "config.json").get("action_horizon")
        if said not in (None, recipe.action_horizon):
            raise ModelError(
                f"{folder / 'config.json'}: action_horizon is {said!r:.20}, and that of "
                f"{recipe.name} is {recipe.action_horizon}: another configuration?"
            )
    robot = ROBOTS[recipe.robot]
    cameras = recipe.cameras or robot.cameras
    numbers = sum(robot.vectors.values())
    scales = _scales(folder, recipe, numbers, robot.commands)
    prompt = _prompt(folder, recipe, task or recipe.prompt, numbers)
    sizes = {name: (_SIZE, _SIZE) for name in cameras}
    for name, shape in shapes.items():
        if name not in sizes:
            raise ModelError(
                f"--shape {name}: is no camera of {recipe.name}; its cameras are "
                f"{', '.join(cameras)}"
            )
        if len(shape) != 3 or shape[2] != 3 or min(shape) < 1:
            raise ModelError(
                f"--shape {name}: write height x width x 3 of the camera, e.g. {name}=480x640x3"
            )
        sizes[name] = (shape[0], shape[1])
    return OpenpiCheckpoint(folder, recipe, cameras, scales, prompt, sizes)


def _prompt(folder: Path, recipe: Recipe, task: str, numbers: int) -> Prompt:
    if not task:
        return Prompt(recipe.tokens, None)
    where = f"{folder}: --config {recipe.name}"
    tokens = open_tokens(folder, _HUB, where)
    begin = tokens.number("<bos>")
    if begin is None:
        raise ModelError(f"{where}: its tokenizer has no <bos>: it is not PaliGemma's")
    if recipe.model == PI05 and recipe.writes_state:

        def whole(text: str) -> list[int]:
            return [begin, *tokens.plain(text)]

        return Prompt(recipe.tokens, None, written_state(whole, task, numbers, where))
    return Prompt(recipe.tokens, _padded(tokens, begin, task, recipe.tokens))


def _padded(tokens: Tokens, begin: int, task: str, length: int) -> tuple[np.ndarray, np.ndarray]:
    """A prompt as openpi pads it: the newline is a text of its own, and what is longer is cut."""
    found = [begin, *tokens.plain(clean(task)), *tokens.plain("\n")][:length]
    ids, mask = np.zeros((1, length), np.int64), np.zeros((1, length), np.bool_)
    ids[0, : len(found)], mask[0, : len(found)] = found, True
    return ids, mask


def _scales(folder: Path, recipe: Recipe, state: int, commands: int) -> dict[str, Scale]:
    file = folder / "assets" / recipe.asset_id / "norm_stats.json"
    if not file.is_file():
        there = sorted(
            str(one.parent.relative_to(folder / "assets"))
            for one in (folder / "assets").glob("**/norm_stats.json")
        )
        raise ModelError(
            f"{file}: no such file; there is {', '.join(there) or 'none'}: say asset_id in a "
            f".toml file of --config"
        )
    said = read_json(file).get("norm_stats")
    if not isinstance(said, dict):
        raise ModelError(f"{file}: has no norm_stats")
    return {
        STATE: _scale(file, said, STATE, recipe, state),
        ACTIONS: _scale(file, said, ACTIONS, recipe, commands),
    }


def _scale(file: Path, said: Mapping[str, Any], name: str, recipe: Recipe, count: int) -> Scale:
    signed = recipe.model == PI05
    keys = ("q01", "q99") if signed else ("mean", "std")
    found = []
    for key in keys:
        one = said.get(name)
        listed = one.get(key) if isinstance(one, dict) else None
        try:
            array = np.asarray(listed, np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"{file}: {key} of {name} is no list of numbers") from error
        if array.ndim != 1 or len(array) < count or not (np.abs(array) <= _LARGEST).all():
            raise ModelError(f"{file}: {key} of {name} needs {count} numbers")
        found.append(array[:count])
    first, second = found
    span = (second - first if signed else second) + 1e-6
    return Scale(first.astype(np.float32), span.astype(np.float32), signed)
