"""pi0 and pi05 of LeRobot's checkpoints.

Source: huggingface/lerobot, src/lerobot/policies/{pi0,pi05}, 0.4.4 to 0.6.1, where the network is
openpi's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as nnf

from vlacut.errors import ModelError
from vlacut.frontends.built import Built
from vlacut.frontends.lerobot.checkpoint import WEIGHTS, Checkpoint
from vlacut.frontends.lerobot.tokens import MASK, TOKENS
from vlacut_models.layers.flow import falling_times
from vlacut_models.lerobot.act import STATE
from vlacut_models.pi.phases import PI0, PI05, built
from vlacut_models.pi.pictures import resize_centred
from vlacut_models.pi.policy import Face

_EMPTY = "observation.images.empty_camera_"
_SETTINGS = (
    ("n_obs_steps", 1, "it reads one observation"),
    ("min_period", 4e-3, "checkpoints are trained so"),
    ("max_period", 4.0, "checkpoints are trained so"),
    ("use_visual_memory", False, "one picture of a camera is compiled"),
    ("use_proprioceptive_memory", False, "one state is compiled"),
)
_WRITTEN = (
    "the prompt has the robot's own numbers, as LeRobot 0.5 and later and openpi write it; "
    "LeRobot 0.4 writes zeros behind them: for a policy of it give its Python as --original"
)


class _Face(Face):
    """LeRobot's steps around the network."""

    mask: Tensor

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        config = checkpoint.config
        self._ahead, self._behind = checkpoint.ahead, checkpoint.behind
        self.cameras = tuple(name for name in config.cameras if not name.startswith(_EMPTY))
        self.vectors, self.width = (STATE,), config.actions
        mask = checkpoint.relative()
        self.relative = any(mask)
        self.register_buffer("mask", torch.tensor(mask, dtype=torch.float32))
        self.side = resolution(checkpoint)
        # LeRobot 0.4 fills the state up before it is written; later ones do not.
        fills = checkpoint.old and checkpoint.config.type == PI05
        self._filled = config.count("max_state_dim", 32) if fills else 0

    def picture(self, name: str, raw: Tensor) -> Tensor:
        return resize_centred(self._ahead.one(name, raw), self.side) * 2.0 - 1.0

    def state(self, given: Mapping[str, Tensor]) -> Tensor:
        scaled = self._ahead.one(STATE, given[STATE])
        return nnf.pad(scaled, (0, max(0, self._filled - scaled.shape[1])))

    def commands(self, actions: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        made: Tensor = self._behind(actions[:, :, : self.width])
        if not self.relative:
            return made
        dims = min(self.width, given[STATE].shape[0])
        moved = given[STATE][:dims] * self.mask[:dims]
        return made + nnf.pad(moved, (0, self.width - dims))


def resolution(checkpoint: Checkpoint) -> int:
    """The side of the square that pictures are scaled into."""
    said = checkpoint.config.settings.get("image_resolution", [224, 224])
    kinds = [type(one) for one in said] if isinstance(said, list) else []
    if kinds != [int, int] or said[0] != said[1] or said[0] < 1:
        raise ModelError(f"{checkpoint.config.folder}: image_resolution {said!r:.40} is no square")
    return int(said[0])


def pi0(checkpoint: Checkpoint) -> Built:
    """pi0: the expert reads the state."""
    return _built(checkpoint, PI0)


def pi05(checkpoint: Checkpoint) -> Built:
    """pi05: the prompt has the state in it."""
    return _built(checkpoint, PI05)


def _built(checkpoint: Checkpoint, kind: str) -> Built:
    config, prompt = checkpoint.config, checkpoint.prompt
    for name, value, why in _SETTINGS:
        config.refuse(name, value, why)
    if prompt is None or STATE not in config.inputs:
        raise ModelError(f"{config.folder}: {kind} needs a tokenizer step and {STATE}")
    if checkpoint.before.writes_state is not (kind == PI05):
        raise ModelError(f"{config.folder}: the steps of its prompt are not those of {kind}")
    for name in config.inputs:
        if name not in (STATE, *config.cameras):
            raise ModelError(f"{config.folder}: {kind} reads no {name}")
    face = _Face(checkpoint)
    if not face.cameras:
        raise ModelError(f"{config.folder}: {kind} needs a camera")
    where = config.folder / WEIGHTS
    made = built(
        kind,
        face,
        prompt,
        (TOKENS, MASK),
        checkpoint.weights("model."),
        where,
        config.count("chunk_size", 50),
        falling_times(config.count("num_inference_steps", 10)),
        checkpoint.fill,
        checkpoint.examples(),
        checkpoint.raw_name,
        [_WRITTEN] if prompt.written is not None and not checkpoint.transformers else [],
    )
    return made
