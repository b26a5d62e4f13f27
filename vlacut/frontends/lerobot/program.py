"""`lerobot:DIR` as a program: the folder is read, and its policy's builder makes the phases."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from vlacut import registry
from vlacut.errors import InputError, ModelError
from vlacut.frontends.built import Built, program_of
from vlacut.frontends.lerobot.checkpoint import Checkpoint, open_folder
from vlacut.frontends.onnx import Shapes
from vlacut.ir.program import Program


class Builder(Protocol):
    """What an entry point of `vlacut.lerobot` names: a policy's type."""

    def __call__(self, checkpoint: Checkpoint) -> Built:
        """The policy, with its weights; ModelError for settings that are not compiled."""


def lerobot_program(
    folder: Path, shapes: Shapes | None = None, task: str = "", transformers: str = ""
) -> Program:
    """The program of a LeRobot checkpoint folder: uint8 pictures [height, width, channels] and
    the raw state in, `action` [chunk, n] in the robot's units out.

    Args:
        folder: `pretrained_model` of a training run.
        shapes: of pictures of another size than in the training, by name.
        task: the prompt, for a policy that reads one; tokens are inputs without it.
        transformers: the version that the policy runs with in LeRobot; empty if it is not known.

    Raises ModelError for a type, a step or a setting that is not known, or a broken file.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; write lerobot:DIR of a checkpoint")
    checkpoint = open_folder(folder, shapes or {}, task, transformers)
    try:
        build: Builder = registry.load("lerobot", checkpoint.config.type)
    except InputError as error:
        raise ModelError(f"{folder}: {error}") from error
    name = folder.resolve().name.replace("pretrained_model", checkpoint.config.type)
    return program_of(name, build(checkpoint))
