"""Families that take sounds."""

from __future__ import annotations

from typing import Any

import torch
import transformers as t
from torch import nn

from .common import IMAGE, TEXT, VISION, family, ids, spoken, waves


@family
def whisper() -> tuple[nn.Module, dict[str, Any]]:
    config = t.WhisperConfig(
        vocab_size=99,
        num_mel_bins=8,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=10,
        max_target_positions=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    given = {"input_features": waves(1, 8, 20), "decoder_input_ids": ids(4)}
    return t.WhisperForConditionalGeneration(config), given


@family
def wav2vec2() -> tuple[nn.Module, dict[str, Any]]:
    config = t.Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16, 16),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    return t.Wav2Vec2Model(config), {"input_values": waves(1, 400)}


@family
def phi4_multimodal() -> tuple[nn.Module, dict[str, Any]]:
    config = t.Phi4MultimodalConfig(
        vision_config={**VISION, "crop_size": 32, "image_token_id": IMAGE, "feature_layer": -2},
        audio_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_blocks": 1,
            "ext_pw_out_channel": 32,
            "num_attention_heads": 4,
            "nemo_conv_channels": 32,
            "audio_token_id": 97,
        },
        **TEXT,
    )
    found = spoken(
        ids(24, pictures=slice(1, 14)),
        image_pixel_values=waves(1, 2, 3, 32, 32),
        image_sizes=torch.tensor([[32, 32]]),
        image_attention_mask=torch.ones(1, 2, 4, 4, dtype=torch.int64),
    )
    return t.Phi4MultimodalForCausalLM(config), found
