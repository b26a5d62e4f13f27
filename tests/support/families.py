"""Small random models of many families of transformers, with examples, as a user would make them.

Each is a function without arguments that gives (module, keywords of its forward); nothing is done
to the module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
import transformers as t
from torch import Tensor, nn

from vlacut.tensor import TensorSpec
from vlacut.tensor.numerics import MASKED, probing

Family = Callable[[], tuple[nn.Module, dict[str, Any]]]

FAMILIES: dict[str, Family] = {}

TEXT: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 99,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
VISION: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
IMAGE = 98  # the token that stands for a place of a picture


def family(make: Family) -> Family:
    FAMILIES[make.__name__] = make
    return make


def ids(count: int, *, pictures: slice | None = None) -> Tensor:
    found = 3 + (torch.arange(count) * 7 % 80)[None]
    if pictures is not None:
        found[0, pictures] = IMAGE
    return found


def other_values(
    specs: Iterable[TensorSpec], example: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Other values of every input: floats drawn anew, masks with padding behind, other words.

    Tokens that stand for something, from 95 on, stay where they are.
    """
    specs = list(specs)
    made = probing(specs, example, MASKED)
    for spec in specs:
        array = example[spec.name]
        if spec.name.endswith("_ids") and array.max() > 2:  # not kinds
            made[spec.name] = np.where(array < 95, 3 + (array + 31) % 80, array)
    return made


def waves(*shape: int) -> Tensor:
    return torch.sin(torch.arange(torch.Size(shape).numel()).float()).reshape(shape)


def spoken(found: Tensor, **more: Any) -> dict[str, Any]:
    return {"input_ids": found, "attention_mask": torch.ones_like(found), **more}


def text(model_type: str, **more: Any) -> dict[str, Any]:
    return {**TEXT, "model_type": model_type, **more}


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


EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


@family
def mixtral() -> tuple[nn.Module, dict[str, Any]]:
    config = t.MixtralConfig(num_local_experts=4, num_experts_per_tok=2, **TEXT)
    return t.MixtralForCausalLM(config), {"input_ids": ids(6)}


@family
def mixtral_one_token() -> tuple[nn.Module, dict[str, Any]]:
    """Fewer chosen experts than there are: only theirs are read."""
    config = t.MixtralConfig(num_local_experts=4, num_experts_per_tok=2, **TEXT)
    return t.MixtralForCausalLM(config), {"input_ids": ids(1)}


@family
def qwen2_moe() -> tuple[nn.Module, dict[str, Any]]:
    config = t.Qwen2MoeConfig(shared_expert_intermediate_size=16, **EXPERTS, **TEXT)
    return t.Qwen2MoeForCausalLM(config), {"input_ids": ids(6)}


@family
def qwen3_moe() -> tuple[nn.Module, dict[str, Any]]:
    config = t.Qwen3MoeConfig(head_dim=8, **EXPERTS, **TEXT)
    return t.Qwen3MoeForCausalLM(config), {"input_ids": ids(6)}


@family
def llama_with_cache() -> tuple[nn.Module, dict[str, Any]]:
    module = t.LlamaForCausalLM(t.LlamaConfig(**TEXT)).eval()
    with torch.no_grad():
        past = module(input_ids=ids(5), use_cache=True).past_key_values
    return module, {"input_ids": ids(1), "past_key_values": past, "use_cache": True}


@family
def llama_prefill() -> tuple[nn.Module, dict[str, Any]]:
    return t.LlamaForCausalLM(t.LlamaConfig(**TEXT)), {"input_ids": ids(5), "use_cache": True}


def causal(config: str, model: str, **more: Any) -> Family:
    def make() -> tuple[nn.Module, dict[str, Any]]:
        made = getattr(t, config)(**{**TEXT, **more})
        return getattr(t, model)(made), spoken(ids(7))

    return make


FAMILIES |= {
    "gemma2": causal("Gemma2Config", "Gemma2ForCausalLM", head_dim=8),
    "gemma3": causal("Gemma3TextConfig", "Gemma3ForCausalLM", head_dim=8, sliding_window=4),
    "phi3": causal("Phi3Config", "Phi3ForCausalLM"),
    "qwen2": causal("Qwen2Config", "Qwen2ForCausalLM"),
    "qwen3": causal("Qwen3Config", "Qwen3ForCausalLM", head_dim=8),
    "mistral": causal("MistralConfig", "MistralForCausalLM", sliding_window=4),
    "smollm3": causal("SmolLM3Config", "SmolLM3ForCausalLM"),
    "mamba": causal("MambaConfig", "MambaForCausalLM"),
}


@family
def gpt2() -> tuple[nn.Module, dict[str, Any]]:
    config = t.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=99, bos_token_id=1)
    return t.GPT2LMHeadModel(config), spoken(ids(7))


@family
def mamba2() -> tuple[nn.Module, dict[str, Any]]:
    config = t.Mamba2Config(
        hidden_size=32,
        num_hidden_layers=2,
        vocab_size=99,
        head_dim=16,
        num_heads=4,
        state_size=16,
        n_groups=1,
        chunk_size=4,
    )
    return t.Mamba2ForCausalLM(config), {"input_ids": ids(7)}


@family
def bert() -> tuple[nn.Module, dict[str, Any]]:
    return t.BertModel(t.BertConfig(**TEXT)), spoken(ids(7))


@family
def t5() -> tuple[nn.Module, dict[str, Any]]:
    config = t.T5Config(
        vocab_size=99,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )
    found = spoken(ids(6), decoder_input_ids=ids(3))
    return t.T5ForConditionalGeneration(config), found


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


FAMILIES |= {
    "vit": seeing("ViTConfig", "ViTModel"),
    "dinov2": seeing("Dinov2Config", "Dinov2Model"),
    "dinov3": seeing("DINOv3ViTConfig", "DINOv3ViTModel"),
    "ijepa": seeing("IJepaConfig", "IJepaModel"),
}


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
