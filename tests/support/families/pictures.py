"""Families that see, and what plans on what it saw."""

from __future__ import annotations

from typing import Any

import torch
import transformers as t
from torch import nn

from .common import FAMILIES, TEXT, VISION, Family, family, ids, spoken, waves


@family
def clip() -> tuple[nn.Module, dict[str, Any]]:
    config = t.CLIPConfig(text_config=dict(TEXT), vision_config=dict(VISION), projection_dim=16)
    return t.CLIPModel(config), spoken(ids(7), pixel_values=waves(1, 3, 32, 32))


@family
def siglip() -> tuple[nn.Module, dict[str, Any]]:
    config = t.SiglipConfig(text_config=dict(TEXT), vision_config=dict(VISION))
    return t.SiglipModel(config), {"input_ids": ids(7), "pixel_values": waves(1, 3, 32, 32)}


def seeing(config: str, model: str, size: int = 32, **more: Any) -> Family:
    def make() -> tuple[nn.Module, dict[str, Any]]:
        made = getattr(t, config)(**{**VISION, **more})
        return getattr(t, model)(made), {"pixel_values": waves(1, 3, size, size)}

    return make


FAMILIES.update(
    {
        "vit": seeing("ViTConfig", "ViTModel"),
        "dinov2": seeing("Dinov2Config", "Dinov2Model"),
        "dinov3": seeing("DINOv3ViTConfig", "DINOv3ViTModel"),
        "ijepa": seeing("IJepaConfig", "IJepaModel"),
    }
)


@family
def swin() -> tuple[nn.Module, dict[str, Any]]:
    config = t.SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=16,
        depths=[1, 1],
        num_heads=[2, 4],
        window_size=4,
    )
    return t.SwinModel(config), {"pixel_values": waves(1, 3, 32, 32)}


@family
def resnet() -> tuple[nn.Module, dict[str, Any]]:
    config = t.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1])
    return t.ResNetModel(config), {"pixel_values": waves(1, 3, 32, 32)}


@family
def videomae() -> tuple[nn.Module, dict[str, Any]]:
    config = t.VideoMAEConfig(num_frames=4, tubelet_size=2, **VISION)
    return t.VideoMAEModel(config), {"pixel_values": waves(1, 4, 3, 32, 32)}


@family
def decision_transformer() -> tuple[nn.Module, dict[str, Any]]:
    config = t.DecisionTransformerConfig(
        state_dim=5,
        act_dim=3,
        hidden_size=32,
        n_layer=2,
        n_head=4,
        max_ep_len=64,
    )
    given = {
        "states": waves(1, 4, 5),
        "actions": waves(1, 4, 3),
        "rewards": waves(1, 4, 1),
        "returns_to_go": waves(1, 4, 1),
        "timesteps": torch.arange(4)[None],
        "attention_mask": torch.ones(1, 4, dtype=torch.int64),
    }
    return t.DecisionTransformerModel(config), given


@family
def detr() -> tuple[nn.Module, dict[str, Any]]:
    config = t.DetrConfig(
        backbone_config=t.ResNetConfig(
            embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], out_features=["stage2"]
        ),
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        num_queries=5,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
    )
    return t.DetrModel(config), {"pixel_values": waves(1, 3, 64, 64)}
