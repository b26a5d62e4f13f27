"""A checkpoint folder of LeRobot's, opened: what a policy's builder needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vlacut.errors import ModelError
from vlacut.frontends.checkpoint import open_checkpoint
from vlacut.frontends.filling import fill_module
from vlacut.frontends.lerobot.config import VISUAL, Config, read_config
from vlacut.frontends.lerobot.merging import base_folder, merge_adapter
from vlacut.frontends.lerobot.scaling import Ahead, Behind, check_scales
from vlacut.frontends.lerobot.steps import AFTER, BEFORE, Steps, read_steps
from vlacut.frontends.lerobot.tokens import tokenised
from vlacut.frontends.onnx import Shapes
from vlacut.frontends.prompts.tokens import Prompt

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds; see `open_folder`.

    Attributes:
        config: of the policy.
        before, after: its processor steps.
        prompt: the task as tokens; None for a policy that reads none.
        transformers: the version that the policy runs with in LeRobot; empty if it is not known.
        sizes: height and width of pictures by the policy's name, where not those of `config`.
    """

    config: Config
    before: Steps
    after: Steps
    prompt: Prompt | None
    transformers: str = ""
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def ahead(self) -> Ahead:
        """What comes before the policy."""
        return Ahead(self.config, self.before)

    @property
    def behind(self) -> Behind:
        """What comes after it."""
        return Behind(self.config, self.after)

    def raw_name(self, name: str) -> str:
        """What the robot calls an input of the policy."""
        return self.before.renamed.get(name, name)

    @property
    def old(self) -> bool:
        """Whether the policy runs with LeRobot 0.4, which alone wants transformers 4."""
        return _is_old(self.transformers)

    def relative(self) -> tuple[bool, ...]:
        """Which numbers of a command are relative to the state's; empty where none is.

        Source: huggingface/lerobot, src/lerobot/processor/relative_action_processor.py, 0.6.1.
        """
        said = self.before.relative
        if said is None and self.after.relative is None:
            return ()
        if said is None or self.after.relative is None:
            raise ModelError(f"{self.config.folder}: actions are relative on one side alone")
        kept, names = said.get("exclude_joints") or [], said.get("action_names") or []
        if not isinstance(kept, list) or not isinstance(names, list):
            raise ModelError(
                f"{self.config.folder}: exclude_joints and action_names of relative actions must "
                f"be lists"
            )
        words = [str(one).lower() for one in kept if one]
        joints = [str(one).lower() for one in names[: self.config.actions]]
        mask = [not any(word in joint for word in words) for joint in joints]
        return tuple(mask + [True] * (self.config.actions - len(mask)))

    def absolute_alone(self) -> None:
        """Raise ModelError where actions are relative, for a policy that is not compiled so."""
        if self.relative():
            raise ModelError(
                f"{self.config.folder}: actions relative to the state are not compiled for "
                f"{self.config.type}"
            )

    def examples(self, seed: int = 0) -> dict[str, Tensor]:
        """An example of every input by the policy's name, as the robot has it: pictures uint8
        [height, width, channels] of noise, vectors near the middle of their statistics.
        """
        numbers = torch.Generator().manual_seed(seed)
        made = {}
        for name, feature in self.config.inputs.items():
            if feature.kind == VISUAL:
                channels, *sides = feature.shape
                shape = (*self.sizes.get(name, sides), channels)
                made[name] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=numbers)
            else:
                drawn = torch.randn(feature.shape, generator=numbers)
                made[name] = self._placed(name, drawn)
        return made

    def _placed(self, name: str, drawn: Tensor) -> Tensor:
        scale = self.before.scales.get(name)
        if scale is None:
            return drawn
        first, second = torch.from_numpy(scale.first), torch.from_numpy(scale.second)
        if scale.mode == "MEAN_STD":
            return first + drawn * second
        return (first + second) / 2 + drawn.clamp(-2, 2) * (second - first) / 4

    def weights(self, prefix: str = "") -> dict[str, Tensor]:
        """The tensors whose names begin with a prefix, by what follows it; mapped, not read.

        An adapter of peft's is merged into them.
        """
        folder = base_folder(self.config.folder)
        open_checkpoint([folder / WEIGHTS])  # which says what is wrong with the file
        found = merge_adapter(self.config.folder, load_file(folder / WEIGHTS))
        return {name[len(prefix) :]: one for name, one in found.items() if name.startswith(prefix)}

    def fill(self, module: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Give a module of shapes its weights, in their types.

        Raises ModelError listing what is missing, and what is of another shape.
        """
        what = f"{self.config.type} of its config.json"
        fill_module(self.config.folder / WEIGHTS, what, module, weights)


def open_folder(folder: Path, shapes: Shapes, task: str, transformers: str = "") -> Checkpoint:
    """Read what a folder says; weights are read later.

    Args:
        folder: with `config.json`, `model.safetensors` and the two processor files.
        shapes: of pictures of another size than the training's, [height, width, channels], by
            the robot's or the policy's name.
        task: the prompt; empty for one that is an input of the program.
        transformers: see `Checkpoint`.

    Raises ModelError naming what is wrong, or not known.
    """
    config = read_config(folder)
    before, after = read_steps(folder, BEFORE), read_steps(folder, AFTER)
    check_scales(config, before, after)
    prompt = None
    if before.tokenizer is not None:
        prompt = tokenised(folder, before, task, _written(config, _is_old(transformers)))
    if task and prompt is None:
        raise ModelError(
            f"{folder}: a policy of type {config.type} reads no task; leave --task out"
        )
    raw = {before.renamed.get(name, name): name for name in config.inputs}
    return Checkpoint(config, before, after, prompt, transformers, _sizes(config, shapes, raw))


def _is_old(transformers: str) -> bool:
    return transformers.partition(".")[0] == "4"


def _written(config: Config, old: bool) -> int:
    """Numbers of the state in a prompt: those of the robot, and LeRobot 0.4's zeros behind them."""
    state = config.inputs.get("observation.state")
    numbers = state.shape[0] if state is not None else 1
    return max(numbers, config.count("max_state_dim", 32)) if old else numbers


def _sizes(config: Config, shapes: Shapes, names: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    found = {}
    for given, shape in shapes.items():
        name = names.get(given, given)
        feature = config.inputs.get(name)
        if feature is None or feature.kind != VISUAL:
            raise ModelError(
                f"--shape {given}: is no camera of {config.folder}; its cameras are "
                f"{', '.join(config.cameras) or 'none'}"
            )
        if len(shape) != 3 or shape[2] != feature.shape[0] or min(shape) < 1:
            raise ModelError(
                f"--shape {given}: write height x width x channels of the camera, e.g. "
                f"{given}=480x640x{feature.shape[0]}"
            )
        found[name] = (shape[0], shape[1])
    return found
