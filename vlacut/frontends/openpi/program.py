"""`openpi:DIR --config NAME` as a program: the folder is read, and a builder makes the phases."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from vlacut import registry
from vlacut.errors import InputError, ModelError
from vlacut.frontends.built import Built, program_of
from vlacut.frontends.onnx import Shapes
from vlacut.frontends.openpi.checkpoint import OpenpiCheckpoint, open_folder
from vlacut.frontends.openpi.recipe_files import read_recipe
from vlacut.frontends.openpi.recipes import RECIPES
from vlacut.ir.program import Program


class Builder(Protocol):
    """What an entry point of `vlacut.openpi` names: a model of openpi's."""

    def __call__(self, checkpoint: OpenpiCheckpoint) -> Built:
        """The policy, with its weights; ModelError for weights that do not fit."""


def openpi_program(
    folder: Path, config: str, shapes: Shapes | None = None, task: str = ""
) -> Program:
    """The program of a PyTorch checkpoint of openpi's: uint8 pictures [height, width, 3] and the
    raw state by the client's keys in, `action` [horizon, n] in the robot's units out.

    Args:
        folder: with `model.safetensors` and `assets`.
        config: the name of its configuration, or a .toml file, as `read_recipe` reads it.
        shapes: of pictures of another size than 224 x 224, by key.
        task: the prompt; where neither it nor the configuration has one, tokens are inputs.

    Raises ModelError for a configuration that is not known, or a broken file.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; write openpi:DIR of a checkpoint in PyTorch")
    if not config:
        raise ModelError(
            f"{folder}: name the configuration that it was trained by with --config: "
            f"{', '.join(RECIPES)}, or a .toml file like one of them"
        )
    checkpoint = open_folder(folder, read_recipe(config), shapes or {}, task)
    try:
        build: Builder = registry.load("openpi", checkpoint.recipe.model)
    except InputError as error:
        raise ModelError(f"{folder}: {error}") from error
    return program_of(checkpoint.recipe.name, build(checkpoint))
