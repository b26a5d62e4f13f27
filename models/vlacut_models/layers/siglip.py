"""SigLIP's vision transformer with transformers' parameter names, as in pi0 and SmolVLA."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

from vlacut_models.layers.prismatic import Tower


class Embeddings(nn.Module):
    """Images [B, 3, S, S] to patch tokens [B, N, width] with their positions."""

    def __init__(self, width: int, image: int, patch: int) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, width, patch, stride=patch)
        self.position_embedding = nn.Embedding((image // patch) ** 2, width)

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
    """Images [B, 3, S, S] to normalised tokens [B, N, width]; sides are in pixels."""

    def __init__(self, tower: Tower, image: int, patch: int) -> None:
        super().__init__()
        config = siglip_config(tower)
        self.embeddings = Embeddings(tower.width, image, patch)
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, images: Tensor) -> Tensor:
        return self.post_layernorm(self.encoder(self.embeddings(images)))


def siglip_config(tower: Tower) -> SiglipVisionConfig:
    """What the blocks of a tower need to know, for transformers."""
    config = SiglipVisionConfig(
        hidden_size=tower.width,
        num_hidden_layers=tower.depth,
        num_attention_heads=tower.heads,
        intermediate_size=tower.hidden,
        hidden_act="gelu_pytorch_tanh",
    )
    config._attn_implementation = "sdpa"
    return config
