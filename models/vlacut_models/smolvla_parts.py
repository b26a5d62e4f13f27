"""The parts of SmolVLA: the VLM's connector and text model, and the action expert.

Source of the architecture: see `smolvla`. Parameters are named as in the published checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from vlacut_models.decoder import heads_of, mix, rotate
from vlacut_models.flow import named
from vlacut_models.prismatic import Tower

SIGLIP_B = Tower(768, 12, 12, 3072)


@dataclass(frozen=True)
class SmolVLAConfig:
    """Size of a SmolVLA-like policy.

    Attributes:
        image, patch: sides in pixels.
        cameras: images in the observation.
        siglip: the vision tower.
        shuffle: side of the square of patches that becomes one token.
        width, hidden: of the VLM's text model.
        expert_width, expert_hidden: of the action expert.
        layers, heads, groups, head_width: of both; `groups` heads have keys and values.
        vocabulary, prompt: tokens, and how many the instruction is padded to.
        state: of the robot's state and of an action, padded.
        chunk, steps: actions in a chunk, and steps from noise to them.
    """

    image: int = 512
    patch: int = 16
    cameras: int = 3
    siglip: Tower = SIGLIP_B
    shuffle: int = 4
    width: int = 960
    hidden: int = 2560
    expert_width: int = 720
    expert_hidden: int = 2048
    layers: int = 16
    heads: int = 15
    groups: int = 5
    head_width: int = 64
    vocabulary: int = 49280
    prompt: int = 48
    state: int = 32
    chunk: int = 50
    steps: int = 10

    @property
    def visual(self) -> int:
        """Visual tokens of all cameras."""
        return self.cameras * (self.image // self.patch // self.shuffle) ** 2

    @property
    def prefix(self) -> int:
        """Tokens of the VLM: images, instruction and state."""
        return self.visual + self.prompt + 1

    def llama(self, width: int, hidden: int) -> LlamaConfig:
        """Text model or expert, for transformers."""
        return LlamaConfig(
            hidden_size=width,
            intermediate_size=hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.groups,
            head_dim=self.head_width,
            vocab_size=self.vocabulary,
            rms_norm_eps=1e-5,
        )


class Connector(nn.Module):
    """Squares of patches to tokens of the text model's width."""

    def __init__(self, config: SmolVLAConfig) -> None:
        super().__init__()
        self._shuffle = config.shuffle
        joined = config.siglip.width * config.shuffle**2
        self.modality_projection = named(proj=nn.Linear(joined, config.width, bias=False))

    def forward(self, patches: Tensor) -> Tensor:
        """[B, N, siglip] to [B, N / shuffle^2, width]."""
        count, number, width = patches.shape
        side = int(number**0.5) // self._shuffle
        grid = patches.reshape(count, side, self._shuffle, side, self._shuffle, width)
        squares = grid.transpose(2, 3).reshape(count, side**2, -1)
        return self.modality_projection.proj(squares)


class TextModel(nn.Module):
    """Embedding, layers and last norm."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            LlamaDecoderLayer(config, index) for index in range(config.num_hidden_layers)
        )
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class Expert(nn.Module):
    """Layers and last norm of the action expert; odd layers project the VLM's keys and values."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        layers = [LlamaDecoderLayer(config, index) for index in range(config.num_hidden_layers)]
        for layer in layers[1::2]:
            keys = layer.self_attn.k_proj.out_features
            layer.self_attn.k_proj = nn.Linear(keys, keys, bias=False)
            layer.self_attn.v_proj = nn.Linear(keys, keys, bias=False)
        self.layers = nn.ModuleList(layers)
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)


def cross_attend(
    layer: LlamaDecoderLayer,
    hidden: Tensor,
    turn: tuple[Tensor, Tensor],
    past: Sequence[Tensor],
    mask: Tensor,
) -> Tensor:
    """Attention of [1, N, width] over projected keys and values of the VLM, [1, groups, S, width].

    The arguments are as for `decoder.attend`; `turn` counts from 0, for the query alone.
    """
    attention = layer.self_attn
    query = rotate(heads_of(attention.q_proj, hidden, attention.head_dim), *turn)
    key, value = (
        heads_of(project, tensor.transpose(1, 2).flatten(2), attention.head_dim)
        for project, tensor in zip((attention.k_proj, attention.v_proj), past, strict=True)
    )
    return attention.o_proj(mix(query, key, value, mask))
