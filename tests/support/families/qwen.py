"""Qwen's families that take pictures: places have rows and columns."""

from __future__ import annotations

from typing import Any

import torch
import transformers as t
from torch import nn

from .common import IMAGE, TEXT, family, ids, spoken, waves

QWEN = {
    "image_token_id": IMAGE,
    "video_token_id": 95,
    "vision_start_token_id": 97,
    "vision_end_token_id": 96,
}


def qwen_given() -> dict[str, Any]:
    found = ids(24, pictures=slice(3, 19))
    found[0, 2], found[0, 19] = 97, 96
    return spoken(
        found,
        pixel_values=waves(64, 96),
        image_grid_thw=torch.tensor([[1, 8, 8]]),
        mm_token_type_ids=(found == IMAGE).int(),
    )


SECTIONS = {"rope_type": "default", "mrope_section": [1, 1, 2]}


@family
def qwen2_vl() -> tuple[nn.Module, dict[str, Any]]:
    config = t.Qwen2VLConfig(
        text_config={**TEXT, "rope_scaling": SECTIONS},
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 4,
            "mlp_ratio": 2,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        **QWEN,
    )
    return t.Qwen2VLForConditionalGeneration(config), qwen_given()


@family
def qwen2_5_vl() -> tuple[nn.Module, dict[str, Any]]:
    config = t.Qwen2_5_VLConfig(
        text_config={**TEXT, "rope_scaling": SECTIONS},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 32,
            "window_size": 16,
            "fullatt_block_indexes": [1],
        },
        **QWEN,
    )
    return t.Qwen2_5_VLForConditionalGeneration(config), qwen_given()


@family
def qwen3_vl() -> tuple[nn.Module, dict[str, Any]]:
    config = t.Qwen3VLConfig(
        text_config={
            **TEXT,
            "rope_scaling": {**SECTIONS, "mrope_interleaved": True},
            "head_dim": 8,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        **QWEN,
    )
    return t.Qwen3VLForConditionalGeneration(config), qwen_given()
