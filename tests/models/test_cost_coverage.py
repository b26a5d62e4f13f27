"""Every operator that the zoo and models of `transformers` export has a cost rule."""

from __future__ import annotations

import pytest
import torch
from support import exported
from support.zoo import traced
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    T5Config,
    T5Model,
    WhisperConfig,
    WhisperModel,
)

from vlacut import registry
from vlacut.ir.annotation import UNPRICED
from vlacut.ir.program import Program
from vlacut_passes.annotate_cost import AnnotateCost

IDS = torch.ones(1, 8, dtype=torch.long)
SMALL = {"vocab_size": 60, "num_hidden_layers": 1, "num_attention_heads": 2}


def bert() -> tuple[torch.nn.Module, torch.Tensor]:
    model = BertModel(BertConfig(hidden_size=16, intermediate_size=32, **SMALL)).eval()
    return exported.Wrapped(model, lambda m, ids: m(ids).last_hidden_state), IDS


def t5() -> tuple[torch.nn.Module, torch.Tensor]:
    config = T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    model = T5Model(config).eval()
    model.set_attn_implementation("eager")  # torch's exporter fails on the other
    return exported.Wrapped(
        model,
        lambda m, ids: m(input_ids=ids, decoder_input_ids=ids, use_cache=False).last_hidden_state,
    ), IDS


def whisper() -> tuple[torch.nn.Module, torch.Tensor]:
    layers = {"encoder_layers": 1, "decoder_layers": 1}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    wide = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "d_model": 16}
    config = WhisperConfig(
        vocab_size=60,
        num_mel_bins=8,
        max_source_positions=16,
        pad_token_id=0,
        **layers,
        **heads,
        **wide,
    )
    model = WhisperModel(config).eval()
    return exported.Wrapped(
        model, lambda m, mel: m(mel, decoder_input_ids=IDS, use_cache=False).last_hidden_state
    ), torch.zeros(1, 8, 32)


def clip() -> tuple[torch.nn.Module, torch.Tensor]:
    text = {"hidden_size": 16, "intermediate_size": 32, **SMALL}
    image = {"hidden_size": 16, "intermediate_size": 32, "image_size": 16, "patch_size": 8}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(text_config=text, vision_config=image | layers, projection_dim=16)
    model = CLIPModel(config).eval()
    return exported.Wrapped(
        model, lambda m, pixels: m(input_ids=IDS, pixel_values=pixels).logits_per_image
    ), torch.zeros(1, 3, 16, 16)


def unpriced(program: Program) -> tuple[str, ...]:
    AnnotateCost().run(program)
    return UNPRICED.get(program)


@pytest.mark.slow
@pytest.mark.parametrize("make", [bert, t5, whisper, clip, exported.llama, exported.vit])
@pytest.mark.parametrize("opset", [18, 23])
def test_models_of_transformers(make: object, opset: int) -> None:
    assert unpriced(exported.program(exported.export(*make(), opset))) == ()  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names("models"))
def test_the_zoo(name: str) -> None:
    assert unpriced(traced(name)) == ()
