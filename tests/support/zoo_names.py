"""What transformers calls the zoo's weights and how it lays them out; and its own pi0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import transformers as hf
from torch import Tensor

PALIGEMMA = "paligemma_with_expert.paligemma"


def their_pi0_name(name: str) -> str:
    for old, new in (
        (f"{PALIGEMMA}.lm_head.weight", "words"),
        (f"{PALIGEMMA}.model.vision_tower.vision_model", "model.vlm.vision_tower"),
        (f"{PALIGEMMA}.model", "model.vlm"),
        ("paligemma_with_expert.gemma_expert.model", "model.dit"),
        ("state_proj", "embed_action_time.state_proj"),
        ("action_in_proj", "embed_action_time.action_in_proj"),
        ("action_time_mlp", "embed_action_time.action_time_mlp"),
    ):
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def split_qkv(state: Mapping[str, Tensor], block: str, stem: str) -> Iterator[tuple[str, Tensor]]:
    for kind in ("weight", "bias"):
        parts = state[f"{block}.attn.qkv.{kind}"].chunk(3)
        for name, part in zip(("q", "k", "v"), parts, strict=True):
            yield f"{stem.format(name)}.{kind}", part


def siglip_names(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield "embeddings.position_embedding.weight", state["pos_embed"][0]
    for kind in ("weight", "bias"):
        yield f"embeddings.patch_embedding.{kind}", state[f"patch_embed.proj.{kind}"]
        yield f"post_layernorm.{kind}", state[f"norm.{kind}"]
    names = {
        "norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj",
        "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2",
    }  # fmt: skip
    for index in range(3):
        block, theirs = f"blocks.{index}", f"encoder.layers.{index}"
        yield from split_qkv(state, block, theirs + ".self_attn.{}_proj")
        for old, new in names.items():
            for kind in ("weight", "bias"):
                yield f"{theirs}.{new}.{kind}", state[f"{block}.{old}.{kind}"]


def dinov2_names(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    zeros = torch.zeros(1, 1, 32)
    yield "embeddings.cls_token", state["cls_token"]
    yield "embeddings.register_tokens", state["reg_token"]
    yield "embeddings.mask_token", zeros[0]
    # Theirs has a position for the class token.
    yield "embeddings.position_embeddings", torch.cat([zeros, state["pos_embed"]], dim=1)
    for kind in ("weight", "bias"):
        yield f"embeddings.patch_embeddings.projection.{kind}", state[f"patch_embed.proj.{kind}"]
        yield f"layernorm.{kind}", state[f"norm.{kind}"]
    names = {
        "norm1": "norm1", "norm2": "norm2", "attn.proj": "attention.o_proj",
        "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2",
    }  # fmt: skip
    for index in range(3):
        block, theirs = f"blocks.{index}", f"encoder.layer.{index}"
        yield from split_qkv(state, block, theirs + ".attention.{}_proj")
        for scale in ("1", "2"):
            yield f"{theirs}.layer_scale{scale}.lambda1", state[f"{block}.ls{scale}.gamma"]
        for old, new in names.items():
            for kind in ("weight", "bias"):
                yield f"{theirs}.{new}.{kind}", state[f"{block}.{old}.{kind}"]


def clip_names(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield "embeddings.class_embedding", state["class_embedding"]
    yield "embeddings.patch_embedding.weight", state["conv1.weight"]
    yield "embeddings.position_embedding.weight", state["positional_embedding"]
    names = {
        "ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj",
        "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
    }  # fmt: skip
    for kind in ("weight", "bias"):
        yield f"pre_layrnorm.{kind}", state[f"ln_pre.{kind}"]
        yield f"post_layernorm.{kind}", state[f"ln_pre.{kind}"]  # not read
        for index in range(2):
            block, theirs = f"transformer.resblocks.{index}", f"encoder.layers.{index}"
            parts = state[f"{block}.attn.in_proj_{kind}"].chunk(3)
            for name, part in zip(("q", "k", "v"), parts, strict=True):
                yield f"{theirs}.self_attn.{name}_proj.{kind}", part
            for old, new in names.items():
                yield f"{theirs}.{new}.{kind}", state[f"{block}.{old}.{kind}"]


def their_pi0(tiny: Any) -> hf.PI0ForConditionalGeneration:
    """The PI0 of transformers in the size of a configuration of ours, with weights of its own."""
    tower = {
        "model_type": "siglip_vision_model",
        "hidden_size": tiny.siglip.width,
        "intermediate_size": tiny.siglip.hidden,
        "num_hidden_layers": tiny.siglip.depth,
        "num_attention_heads": tiny.siglip.heads,
        "image_size": tiny.image,
        "patch_size": tiny.patch,
        "vision_use_head": False,
    }
    gemma = {
        "model_type": "gemma",
        "num_hidden_layers": tiny.layers,
        "num_attention_heads": tiny.heads,
        "num_key_value_heads": tiny.groups,
        "head_dim": tiny.head_width,
        "vocab_size": tiny.vocabulary,
    }
    wide = {"hidden_size": tiny.width, "intermediate_size": tiny.hidden}
    slim = {"hidden_size": tiny.expert_width, "intermediate_size": tiny.expert_hidden}
    config = hf.PI0Config(
        vlm_config={
            "model_type": "paligemma",
            "text_config": {**gemma, **wide},
            "vision_config": tower,
            "projection_dim": tiny.width,
            "image_token_id": tiny.vocabulary,
        },
        dit_config={**gemma, **slim},
        chunk_size=tiny.chunk,
        max_state_dim=tiny.state,
        max_action_dim=tiny.state,
    )
    return hf.PI0ForConditionalGeneration(config).eval()
