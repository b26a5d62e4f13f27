"""Families that take a picture and words."""

from __future__ import annotations

from typing import Any

import torch
import transformers as t
from torch import nn

from .common import IMAGE, VISION, family, ids, spoken, text, waves


@family
def smolvlm() -> tuple[nn.Module, dict[str, Any]]:
    config = t.SmolVLMConfig(
        text_config=text("llama"), vision_config=VISION, image_token_id=IMAGE, scale_factor=2
    )
    found = spoken(ids(12, pictures=slice(2, 6)), pixel_values=waves(1, 1, 3, 32, 32))
    return t.SmolVLMForConditionalGeneration(config), found


@family
def smolvlm2() -> tuple[nn.Module, dict[str, Any]]:
    """Two pictures, with the mask of padding that its processor makes."""
    config = t.SmolVLMConfig(
        text_config=text("llama"), vision_config=VISION, image_token_id=IMAGE, scale_factor=2
    )
    found = spoken(
        ids(16, pictures=slice(2, 10)),
        pixel_values=waves(1, 2, 3, 32, 32),
        pixel_attention_mask=torch.ones(1, 2, 32, 32, dtype=torch.bool),
    )
    return t.SmolVLMForConditionalGeneration(config), found


@family
def idefics3() -> tuple[nn.Module, dict[str, Any]]:
    config = t.Idefics3Config(
        text_config=text("llama"), vision_config=VISION, image_token_id=IMAGE, scale_factor=2
    )
    found = spoken(ids(12, pictures=slice(2, 6)), pixel_values=waves(1, 1, 3, 32, 32))
    return t.Idefics3ForConditionalGeneration(config), found


@family
def paligemma() -> tuple[nn.Module, dict[str, Any]]:
    config = t.PaliGemmaConfig(
        text_config=text("gemma", head_dim=8),
        vision_config={**VISION, "model_type": "siglip_vision_model", "patch_size": 16},
        image_token_id=IMAGE,
        projection_dim=32,
        hidden_size=32,
    )
    found = ids(10, pictures=slice(0, 4))
    kinds = torch.zeros_like(found)
    more = {"token_type_ids": kinds, "pixel_values": waves(1, 3, 32, 32)}
    return t.PaliGemmaForConditionalGeneration(config), spoken(found, **more)


@family
def paligemma_without_kinds() -> tuple[nn.Module, dict[str, Any]]:
    """Which attends to all, and would be masked silently."""
    module, found = paligemma()
    del found["token_type_ids"]
    return module, found


@family
def llava() -> tuple[nn.Module, dict[str, Any]]:
    config = t.LlavaConfig(
        text_config=text("llama"),
        vision_config={**VISION, "model_type": "clip_vision_model", "num_hidden_layers": 3},
        image_token_index=IMAGE,
        vision_feature_layer=-2,
    )
    found = spoken(ids(20, pictures=slice(1, 17)), pixel_values=waves(1, 3, 32, 32))
    return t.LlavaForConditionalGeneration(config), found


@family
def internvl() -> tuple[nn.Module, dict[str, Any]]:
    config = t.InternVLConfig(
        text_config=text("qwen2"),
        vision_config={**VISION, "image_size": [32, 32], "patch_size": [8, 8]},
        image_token_id=IMAGE,
    )
    found = spoken(ids(12, pictures=slice(1, 5)), pixel_values=waves(1, 3, 32, 32))
    return t.InternVLForConditionalGeneration(config), found


@family
def florence2() -> tuple[nn.Module, dict[str, Any]]:
    config = t.Florence2Config(
        text_config={
            "model_type": "bart",
            "vocab_size": 99,
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": 128,
        },
        vision_config={
            "embed_dim": [16, 16, 16, 32],
            "num_heads": [2, 2, 2, 4],
            "depths": [1, 1, 1, 1],
            "num_groups": [2, 2, 2, 4],
            "projection_dim": 32,
            "window_size": 4,
        },
        image_token_id=IMAGE,
    )
    found = spoken(ids(12, pictures=slice(1, 6)), pixel_values=waves(1, 3, 64, 64))
    return t.Florence2ForConditionalGeneration(config), {**found, "decoder_input_ids": ids(3)}


@family
def blip2() -> tuple[nn.Module, dict[str, Any]]:
    config = t.Blip2Config(
        vision_config={**VISION, "num_hidden_layers": 1},
        qformer_config={
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "encoder_hidden_size": 32,
            "vocab_size": 99,
        },
        text_config={
            "model_type": "opt",
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "vocab_size": 99,
            "num_attention_heads": 4,
            "ffn_dim": 64,
            "word_embed_proj_dim": 32,
            "max_position_embeddings": 128,
        },
        num_query_tokens=4,
        image_token_index=IMAGE,
    )
    found = spoken(ids(10, pictures=slice(0, 4)), pixel_values=waves(1, 3, 32, 32))
    return t.Blip2ForConditionalGeneration(config), found


@family
def llava_next() -> tuple[nn.Module, dict[str, Any]]:
    config = t.LlavaNextConfig(
        text_config=text("llama"),
        vision_config={**VISION, "model_type": "clip_vision_model", "num_hidden_layers": 3},
        image_token_index=IMAGE,
        image_grid_pinpoints=[[32, 64], [64, 32], [64, 64]],
    )
    found = spoken(ids(60, pictures=slice(1, 53)))
    more = {"pixel_values": waves(1, 3, 3, 32, 32), "image_sizes": torch.tensor([[32, 64]])}
    return t.LlavaNextForConditionalGeneration(config), {**found, **more}


@family
def gemma3_vision() -> tuple[nn.Module, dict[str, Any]]:
    config = t.Gemma3Config(
        text_config=text("gemma3_text", head_dim=8, sliding_window=8),
        vision_config={**VISION, "model_type": "siglip_vision_model"},
        mm_tokens_per_image=4,
        image_token_index=IMAGE,
    )
    found = ids(12, pictures=slice(1, 5))
    kinds = (found == IMAGE).int()
    more = {"token_type_ids": kinds, "pixel_values": waves(1, 3, 32, 32)}
    return t.Gemma3ForConditionalGeneration(config), spoken(found, **more)
