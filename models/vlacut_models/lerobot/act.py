"""ACT of a LeRobot checkpoint: pictures and state to a chunk of commands, in one pass.

Source: Zhao et al., Learning Fine-Grained Bimanual Manipulation (arXiv 2304.13705), section 4, as
LeRobot's checkpoints hold it. The VAE's encoder works in training alone: the latent is zeros here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from vlacut.errors import ModelError
from vlacut.frontends.built import Built
from vlacut.frontends.lerobot.checkpoint import Checkpoint
from vlacut.frontends.lerobot.config import Config
from vlacut.frontends.torch import TorchPhase
from vlacut_models.lerobot.resnet import ResNet
from vlacut_models.presets import on_shapes

STATE, ENVIRONMENT = "observation.state", "observation.environment_state"
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": nnf.relu,
    "gelu": nnf.gelu,
    "glu": nnf.glu,
}


class Layer(nn.Module):
    """A layer of the encoder; of the decoder, if it looks at the encoder's output."""

    def __init__(self, config: Config, decodes: bool) -> None:
        super().__init__()
        width, heads = config.of("dim_model", 512), config.of("n_heads", 8)
        hidden = config.of("dim_feedforward", 3200)
        self.self_attn = nn.MultiheadAttention(width, heads)
        if decodes:
            self.multihead_attn = nn.MultiheadAttention(width, heads)
            self.norm3 = nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self._decodes, self._first = decodes, config.of("pre_norm", False)
        name = config.of("feedforward_activation", "relu")
        if name not in _ACTIVATIONS:
            raise ModelError(f"{config.folder}: no feedforward_activation {name!r:.40}")
        self._activation = _ACTIVATIONS[name]

    def forward(
        self, x: Tensor, places: Tensor, seen: Tensor | None, keys: Tensor | None
    ) -> Tensor:
        """Tokens [N, 1, width] with places [N, 1, width]; `seen` [S, 1, width] and its keys."""

        def among(y: Tensor) -> Tensor:
            query = y + places
            mixed: Tensor = self.self_attn(query, query, value=y)[0]
            return mixed

        def across(y: Tensor) -> Tensor:
            mixed: Tensor = self.multihead_attn(y + places, keys, value=seen)[0]
            return mixed

        def forth(y: Tensor) -> Tensor:
            made: Tensor = self.linear2(self._activation(self.linear1(y)))
            return made

        parts = [among, across, forth] if self._decodes else [among, forth]
        norms = [self.norm1, self.norm2, self.norm3] if self._decodes else [self.norm1, self.norm2]
        for part, norm in zip(parts, norms, strict=True):
            x = x + part(norm(x)) if self._first else norm(x + part(x))
        return x


class Stack(nn.Module):
    """Layers, and a norm behind them where there is one."""

    def __init__(self, config: Config, layers: int, decodes: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, decodes) for _ in range(layers))
        normed = decodes or config.of("pre_norm", False)
        self.norm = nn.LayerNorm(config.of("dim_model", 512)) if normed else nn.Identity()

    def forward(
        self, x: Tensor, places: Tensor, seen: Tensor | None = None, keys: Tensor | None = None
    ) -> Tensor:
        for layer in self.layers:
            x = layer(x, places, seen, keys)
        normed: Tensor = self.norm(x)
        return normed


class ACT(nn.Module):
    """What the checkpoint holds under `model`, without what training alone reads."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, chunk = config.of("dim_model", 512), config.count("chunk_size", 100)
        self._latent = config.of("latent_dim", 32)
        self._cameras = config.cameras
        self._vectors = [name for name in (STATE, ENVIRONMENT) if name in config.inputs]
        names = {
            STATE: "encoder_robot_state_input_proj",
            ENVIRONMENT: "encoder_env_state_input_proj",
        }
        self._projections = [names[name] for name in self._vectors]
        for name, projection in zip(self._vectors, self._projections, strict=True):
            self.add_module(projection, nn.Linear(config.inputs[name].shape[0], width))
        self.encoder_latent_input_proj = nn.Linear(self._latent, width)
        if self._cameras:
            dilated = bool(config.settings.get("replace_final_stride_with_dilation", False))
            self.backbone = ResNet(config.of("vision_backbone", "resnet18"), dilated)
            self.encoder_img_feat_input_proj = nn.Conv2d(self.backbone.width, width, 1)
        self.encoder_1d_feature_pos_embed = nn.Embedding(1 + len(self._vectors), width)
        self.encoder = Stack(config, config.count("n_encoder_layers", 4), False)
        self.decoder = Stack(config, config.count("n_decoder_layers", 1), True)
        self.decoder_pos_embed = nn.Embedding(chunk, width)
        self.action_head = nn.Linear(width, config.actions)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Normalised inputs, by name, to normalised actions [1, chunk, n]."""
        latent = torch.zeros(1, self._latent)
        tokens = [self.encoder_latent_input_proj(latent)[None]]
        for name, projection in zip(self._vectors, self._projections, strict=True):
            tokens.append(self.get_submodule(projection)(batch[name])[None])
        places = [self.encoder_1d_feature_pos_embed.weight[:, None]]
        for camera in self._cameras:
            features = self.backbone(batch[camera])
            height, wide = features.shape[2:]
            places.append(grid_places(height, wide, self.action_head.in_features))
            projected = self.encoder_img_feat_input_proj(features)
            tokens.append(projected.flatten(2).permute(2, 0, 1))
        joined = torch.cat(places)
        seen = self.encoder(torch.cat(tokens), joined)
        asked = self.decoder_pos_embed.weight[:, None]
        made = self.decoder(torch.zeros_like(asked), asked, seen, seen + joined)
        actions: Tensor = self.action_head(made.transpose(0, 1))
        return actions


def grid_places(height: int, width: int, dim: int) -> Tensor:
    """Sines and cosines of the places in a grid, [height * width, 1, dim]: rows, then columns.

    Half of `dim` each, from 1 / n to 1 of a turn; frequencies fall by 10000 (DETR, arXiv
    2005.12872, its published code).
    """
    half = dim // 2
    slower = 10000 ** (2 * (torch.arange(half, dtype=torch.float32) // 2) / half)

    def angles(count: int) -> Tensor:
        counted = torch.ones(count).cumsum(0, dtype=torch.float32)
        turns = counted / (counted[-1:] + 1e-6) * (2 * math.pi)
        each = turns[:, None] / slower
        return torch.stack((each[:, 0::2].sin(), each[:, 1::2].cos()), dim=-1).flatten(1)

    rows = angles(height)[:, None].expand(height, width, half)
    columns = angles(width)[None].expand(height, width, half)
    return torch.cat((rows, columns), dim=2).reshape(height * width, 1, dim)


class Policy(nn.Module):
    """The network between LeRobot's steps: raw tensors in, the robot's units out."""

    def __init__(self, checkpoint: Checkpoint, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = network
        self.ahead, self.behind = checkpoint.ahead, checkpoint.behind
        self._names = tuple(names)

    def forward(self, *raw: Tensor) -> Tensor:
        batch = self.ahead(dict(zip(self._names, raw, strict=True)))
        actions: Tensor = self.behind(self.model(batch))
        return actions


def act(checkpoint: Checkpoint) -> Built:
    """ACT in one phase; LeRobot's temporal ensembling is of many steps, and none of its part."""
    config = checkpoint.config
    checkpoint.absolute_alone()
    config.refuse("n_obs_steps", 1, "ACT reads one observation")
    known = {STATE, ENVIRONMENT, *config.cameras}
    for name in config.inputs:
        if name not in known:
            raise ModelError(f"{config.folder}: ACT reads no {name}")
    if not config.cameras and ENVIRONMENT not in config.inputs:
        raise ModelError(f"{config.folder}: ACT needs a camera or {ENVIRONMENT}")
    network = on_shapes(lambda: ACT(config), torch.float32)
    checkpoint.fill(network, checkpoint.weights("model."))
    examples = checkpoint.examples()
    policy = Policy(checkpoint, network, list(examples)).eval().requires_grad_(False)
    named = {checkpoint.raw_name(name): tensor for name, tensor in examples.items()}
    return Built([TorchPhase("act", policy, named, ("action",))], list(named))
