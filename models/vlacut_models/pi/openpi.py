"""pi0 and pi05 of openpi's checkpoints in PyTorch.

Source: Physical-Intelligence/openpi, src/openpi/models_pytorch and policies/policy_config.py, of
2026-06. openpi computes most of it in bfloat16; here it is float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from vlacut.errors import ModelError
from vlacut.frontends.built import Built
from vlacut.frontends.filling import fill_module
from vlacut.frontends.openpi.checkpoint import (
    ACTIONS,
    MASK,
    STATE,
    TOKENS,
    WEIGHTS,
    OpenpiCheckpoint,
)
from vlacut.frontends.openpi.recipes import ROBOTS
from vlacut_models.layers.flow import summed_times
from vlacut_models.pi.phases import PI0, PI05, built
from vlacut_models.pi.pictures import PillowResize
from vlacut_models.pi.policy import Face
from vlacut_models.pi.robots import Aloha, Scaled

_SIDE, _STEPS = 224, 10


class _Face(Face):
    """openpi's transforms around the network."""

    mask: Tensor

    def __init__(self, checkpoint: OpenpiCheckpoint) -> None:
        super().__init__()
        recipe, robot = checkpoint.recipe, ROBOTS[checkpoint.recipe.robot]
        self.cameras, self.vectors = checkpoint.cameras, tuple(robot.vectors)
        self.width, self.side = robot.commands, _SIDE
        self.relative = any(recipe.delta)
        spare = robot.commands - len(recipe.delta)
        mask = torch.tensor((*recipe.delta, *(False,) * spare), dtype=torch.float32)
        self.register_buffer("mask", mask)
        self.resize = nn.ModuleList(
            PillowResize(*checkpoint.sizes[name], _SIDE) for name in self.cameras
        )
        self.ahead = Scaled(checkpoint.scales[STATE])
        self.behind = Scaled(checkpoint.scales[ACTIONS])
        self.aloha = Aloha() if recipe.adapt_to_pi else None

    def picture(self, name: str, raw: Tensor) -> Tensor:
        whole: Tensor = self.resize[self.cameras.index(name)](raw)
        return whole / 255.0 * 2.0 - 1.0

    def state(self, given: Mapping[str, Tensor]) -> Tensor:
        return self.ahead(self._decoded(given))[None]

    def _decoded(self, given: Mapping[str, Tensor]) -> Tensor:
        joined = torch.cat([given[name] for name in self.vectors])
        return joined if self.aloha is None else self.aloha(joined)

    def commands(self, actions: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        made = self.behind.back(actions[0, :, : self.width])
        if self.relative:
            state = self._decoded(given)[: self.width]
            made = made + nnf.pad(state, (0, self.width - state.shape[0])) * self.mask
        return made if self.aloha is None else self.aloha.back(made)


def pi0(checkpoint: OpenpiCheckpoint) -> Built:
    """pi0: the expert reads the state."""
    return _built(checkpoint, PI0)


def pi05(checkpoint: OpenpiCheckpoint) -> Built:
    """pi05: the prompt has the state in it, or nothing has."""
    return _built(checkpoint, PI05)


def _built(checkpoint: OpenpiCheckpoint, kind: str) -> Built:
    recipe, where = checkpoint.recipe, checkpoint.folder / WEIGHTS
    weights = checkpoint.weights()
    if kind == PI0 and "time_mlp_in.weight" in weights:
        raise ModelError(f"{where}: its weights are pi05's, and {recipe.name} is of pi0")
    return built(
        kind,
        _Face(checkpoint),
        checkpoint.prompt,
        (TOKENS, MASK),
        weights,
        where,
        recipe.action_horizon,
        summed_times(_STEPS),
        partial(fill_module, where, recipe.name),
        checkpoint.examples(),
        str,
    )
