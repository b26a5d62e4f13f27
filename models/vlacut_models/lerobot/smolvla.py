"""SmolVLA of a LeRobot checkpoint: pictures once, the prefix once, then Euler steps on noise.

The network is that of the zoo (`vlacut_models.smolvla`); here are its sizes, which the file's
tensors tell, and what LeRobot does around it: pictures resized and padded at the left and the top,
to -1 .. 1; the state padded; actions cut to the robot's.

Source: Shukor et al., SmolVLA (arXiv 2506.01844); LeRobot's checkpoints of 0.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from vlacut.errors import ModelError
from vlacut.frontends.built import Built
from vlacut.frontends.lerobot.checkpoint import Checkpoint
from vlacut.frontends.lerobot.tokens import MASK, TOKENS
from vlacut.frontends.torch import TorchPhase
from vlacut.tensor.noise import NORMAL, Noise
from vlacut_models.layers.decoder import cache_names
from vlacut_models.layers.flow import FlowConfig, falling_times, time_embeddings
from vlacut_models.lerobot.act import STATE
from vlacut_models.lerobot.smolvla_pictures import place, resize_with_pad, target
from vlacut_models.lerobot.smolvla_sizes import known_vlm, sizes
from vlacut_models.presets import on_shapes
from vlacut_models.smolvla import SmolVLAModel

_HEAD = "vlm_with_expert.vlm.lm_head.weight"
_EMBEDDING = "vlm_with_expert.vlm.model.text_model.embed_tokens.weight"
_UNKNOWN = (
    "patches have the places of transformers before 4.55 and since 5; those of 4.55 to 4.57, which "
    "LeRobot 0.4 trains and runs with, are one off (huggingface/transformers #41190): for a policy "
    "of such an environment give its Python as --original"
)
_EMPTY = "observation.images.empty_camera_"
_SETTINGS = (
    ("n_obs_steps", 1, "it reads one observation"),
    ("adapt_to_pi_aloha", False, "its change of the joints is Aloha's alone"),
    ("add_image_special_tokens", False, "checkpoints are trained without"),
    ("attention_mode", "cross_attn", "checkpoints are trained so"),
    ("self_attn_every_n_layers", 2, "checkpoints are trained so"),
    ("min_period", 4e-3, "checkpoints are trained so"),
    ("max_period", 4.0, "checkpoints are trained so"),
)


def times(steps: int, width: int) -> Tensor:
    """Embeddings [steps, width] of the times 1 + k * (-1 / steps), rounded to float32 as LeRobot's
    loop has them; an angle has up to 250 turns, so that the rounding counts.
    """
    return time_embeddings(falling_times(steps), width)


class Policy(nn.Module):
    """The network between LeRobot's steps; a method a phase.

    Args:
        checkpoint: that it is of.
        config: sizes of the network.
        network: with its weights.
        target: width and height that pictures are scaled into; None where they stay.
        cameras: that the robot has.
    """

    tokens: Tensor
    mask: Tensor

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: FlowConfig,
        network: SmolVLAModel,
        target: tuple[int, int] | None,
        cameras: Sequence[str],
    ) -> None:
        super().__init__()
        self.model = network
        self.ahead, self.behind = checkpoint.ahead, checkpoint.behind
        self._config, self._target, self._cameras = config, target, tuple(cameras)
        self._actions = checkpoint.config.actions
        tokens = checkpoint.prompt.tokens if checkpoint.prompt else None
        self._fixed = tokens is not None
        for name, array in zip(("tokens", "mask"), tokens or (), strict=False):
            self.register_buffer(name, torch.from_numpy(array))

    def vision(self, *raw: Tensor) -> Tensor:
        """Pictures uint8 [H, W, 3] to visual tokens [1, visual, width]."""
        pictures = [
            self._resized(self.ahead.one(name, tensor)) * 2.0 - 1.0
            for name, tensor in zip(self._cameras, raw, strict=True)
        ]
        return self.model.vision(torch.cat(pictures))

    def _resized(self, picture: Tensor) -> Tensor:
        return resize_with_pad(picture, *self._target) if self._target else picture

    def prefix(self, visual_tokens: Tensor, state: Tensor, *prompt: Tensor) -> list[Tensor]:
        """Keys and values of every layer, and the first step's index."""
        scaled = self.ahead.one(STATE, state)
        padded = nnf.pad(scaled, (0, self._config.state - scaled.shape[1]))
        tokens, mask = (self.tokens, self.mask) if self._fixed else prompt
        return self.model.prefix(visual_tokens, tokens, mask, padded)

    def denoise(self, noise: Tensor, step: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        """One Euler step on actions [1, chunk, padded]."""
        mask, caches = (self.mask, rest) if self._fixed else (rest[0], rest[1:])
        return self.model.denoise(noise, step, mask, *caches)

    def finish(self, actions: Tensor) -> Tensor:
        """The actions in the robot's units, [chunk, n]."""
        made: Tensor = self.behind(actions[:, :, : self._actions])
        return made


def smolvla(checkpoint: Checkpoint) -> Built:
    """SmolVLA in four phases; computed in float32 whatever the types of the file."""
    config, prompt = checkpoint.config, checkpoint.prompt
    checkpoint.absolute_alone()
    for name, value, why in _SETTINGS:
        config.refuse(name, value, why)
    if prompt is None or STATE not in config.inputs:
        raise ModelError(f"{config.folder}: SmolVLA needs a tokenizer step and {STATE}")
    # Cameras that are always missing are masked: what is masked has no part in any number.
    cameras = [name for name in config.cameras if not name.startswith(_EMPTY)]
    for name in config.inputs:
        if name not in (STATE, *config.cameras):
            raise ModelError(f"{config.folder}: SmolVLA reads no {name}")
    if not cameras:
        raise ModelError(f"{config.folder}: SmolVLA needs a camera")
    examples = checkpoint.examples()
    weights = {
        name: one.float() if one.is_floating_point() else one
        for name, one in checkpoint.weights("model.").items()
    }
    scaled, side = target(checkpoint, [examples[name] for name in cameras])
    vlm = known_vlm(config)
    made = sizes(config, vlm, weights, side, len(cameras), prompt.length)
    network = on_shapes(lambda: SmolVLAModel(made), torch.float32)
    place(weights, made, checkpoint.transformers)
    # The head that says words, which no phase reads, is tied to the embedding in some files.
    weights.setdefault(_HEAD, weights[_EMBEDDING])
    checkpoint.fill(network, weights)
    for one in network.modules():
        if isinstance(one, LlamaRMSNorm):
            one.variance_epsilon = vlm.epsilon
    network.times = times(made.steps, made.expert_width)
    policy = Policy(checkpoint, made, network, scaled, cameras).eval().requires_grad_(False)
    return _built(checkpoint, policy, made, cameras, examples)


def _built(
    checkpoint: Checkpoint,
    policy: Policy,
    made: FlowConfig,
    cameras: Sequence[str],
    examples: Mapping[str, Tensor],
) -> Built:
    numbers = torch.Generator().manual_seed(1)
    pictures = {checkpoint.raw_name(name): examples[name] for name in cameras}
    state = {checkpoint.raw_name(STATE): examples[STATE]}
    prompt, mask = _prompt(checkpoint, made)
    keys = (1, made.groups, made.prefix, made.head_width)
    caches = {name: torch.zeros(keys) for name in cache_names(made.layers)}
    read = {"visual_tokens": torch.zeros(1, made.visual, made.width), **state, **prompt}
    noise = torch.randn(1, made.chunk, made.state, generator=numbers)
    noisy = {"noise": noise, "step": torch.zeros(1, dtype=torch.int64), **mask, **caches}
    fed = {"denoised": "noise", "next.step": "step"}
    phases = [
        TorchPhase("vision", policy, pictures, ("visual_tokens",), "vision"),
        TorchPhase("prefix", policy, read, (*caches, "step"), "prefix"),
        TorchPhase("denoise", policy, noisy, tuple(fed), "denoise", made.steps, fed),
        TorchPhase("finish", policy, {"denoised": noise}, ("action",), "finish"),
    ]
    observation = [*pictures, *state, *prompt, "noise"]
    notes = [] if checkpoint.transformers else [_UNKNOWN]
    return Built(phases, observation, (Noise("noise", NORMAL, 0.0, 1.0),), notes)


def _prompt(
    checkpoint: Checkpoint, made: FlowConfig
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The prompt's tensors that are inputs, and those of them that hide padding."""
    if checkpoint.prompt is None or checkpoint.prompt.tokens is not None:
        return {}, {}
    mask = {MASK: torch.ones(1, made.prompt, dtype=torch.bool)}
    mask[MASK][:, made.prompt // 2 :] = False
    ids = torch.arange(1, made.prompt + 1)[None] % made.vocabulary
    return {TOKENS: ids, **mask}, mask
