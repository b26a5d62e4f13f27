"""SigLIP's vision transformer with transformers' parameter names, as in pi0 and SmolVLA."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer


class Embeddings(nn.Module):
    """Images [B, 3, S, S] to patch tokens [B, N, width] with their positions."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.patch_embedding = nn.Conv2d(3, width, patch, stride=patch)
        self.position_embedding = nn.Embedding((config.image_size // patch) ** 2, width)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)
        return patches + self.position_embedding.weight


class Encoder(nn.Module):
    """The blocks, under the name `layers`."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SiglipEncoderLayer(config) for _ in range(config.num_hidden_layers)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens, attention_mask=None)
        return tokens


class SiglipTower(nn.Module):
    """Images [B, 3, S, S] to normalised tokens [B, N, width]."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, images: Tensor) -> Tensor:
        return self.post_layernorm(self.encoder(self.embeddings(images)))


def siglip_config(
    *, width: int, depth: int, heads: int, hidden: int, image: int, patch: int
) -> SiglipVisionConfig:
    """The configuration of a tower; sides in pixels."""
    config = SiglipVisionConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=hidden,
        image_size=image,
        patch_size=patch,
        hidden_act="gelu_pytorch_tanh",
    )
    config._attn_implementation = "sdpa"
    return config
