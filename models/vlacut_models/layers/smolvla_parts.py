"""The parts of SmolVLA: the VLM's connector and text model, and the action expert.

Source of the architecture: see `smolvla`. Parameters are named as in the published checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from vlacut_models.layers.decoder import heads_of, mix, rotate
from vlacut_models.layers.flow import FlowConfig, named


def llama(config: FlowConfig, width: int, hidden: int) -> LlamaConfig:
    """Text model or expert, for transformers."""
    return LlamaConfig(**config.language(width, hidden), rms_norm_eps=1e-5)


class Connector(nn.Module):
    """Squares of patches to tokens of the text model's width."""

    def __init__(self, config: FlowConfig) -> None:
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
