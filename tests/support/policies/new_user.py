"""Policies as a new user writes them, of modules of `transformers` with some lines of glue."""

from __future__ import annotations

import torch
import transformers
from torch import nn

from vlacut.frontends.torch import TorchPhase, program_from_torch

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 99}


class Llm(nn.Module):
    """Seven tokens with a cache, which is tensors outside and an object inside."""

    def __init__(self) -> None:
        super().__init__()
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        self.model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, **heads))

    def run(self, tokens, position, keys, values):
        cache = transformers.DynamicCache()
        for index in range(len(keys)):
            cache.update(keys[index], values[index], index)
        made = self.model(tokens, past_key_values=cache, position_ids=position, use_cache=True)
        layers = made.past_key_values.layers
        kept = (
            torch.stack([getattr(each, name) for each in layers]) for name in ("keys", "values")
        )
        return (made.logits[:, -1:].argmax(-1), *kept)

    def prefill(self, ids):
        token, keys, values = self.run(ids, torch.arange(5)[None], (), ())
        return token, keys, values, token.expand(1, 7) * 1, torch.zeros_like(token) + 5

    def decode(self, token, keys, values, tokens, position):
        token, keys, values = self.run(token, position, keys, values)
        tokens = torch.cat([tokens[:, 1:], token], 1)
        return token, keys[:, :, :, 1:], values[:, :, :, 1:], tokens, position + 1


def llm():
    torch.manual_seed(0)
    module, token = Llm().eval(), torch.ones(1, 1, dtype=torch.long)
    cache, names = torch.randn(2, 1, 2, 5, 8), ("token", "keys", "values", "tokens", "position")
    given = (token, cache, cache, token.expand(1, 7) * 1, token * 5)
    made = tuple(f"next_{name}" for name in names)
    ids = {"ids": torch.arange(5)[None] * 3}
    prefill = TorchPhase("prefill", module, ids, names, "prefill")
    decode = TorchPhase(
        *("decode", module, dict(zip(names, given, strict=True)), made, "decode"),
        trips=7,
        carried=dict(zip(made, names, strict=True)),
    )
    return program_from_torch("llm", [prefill, decode], ["ids"], ["next_tokens"])


class Glued(nn.Module):
    """PaliGemma: a prefix that is seen both ways, unless the trace makes it causal."""

    def __init__(self, wrong: bool) -> None:
        super().__init__()
        self.wrong = wrong
        text = {"model_type": "gemma", "head_dim": 8, "num_attention_heads": 4, **SIZES}
        picture = {"model_type": "siglip_vision_model", "hidden_size": 16, "patch_size": 8}
        layers = {"intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = transformers.PaliGemmaConfig(
            text_config={**text, "num_key_value_heads": 1},
            vision_config={**picture, **layers, "image_size": 16},
            projection_dim=32,
            hidden_size=32,
            image_token_index=98,
        )
        self.model = transformers.PaliGemmaForConditionalGeneration(config).model

    def forward(self, pixels, ids, mask):
        seen = self.model.get_image_features(pixels)
        seen = getattr(seen, "pooler_output", seen)
        x = torch.cat([seen, self.model.get_input_embeddings()(ids)], 1)
        pictures = torch.ones_like(mask)[:, :1].expand(-1, seen.shape[1])
        both = torch.cat([pictures, mask], 1).bool()[:, None, None].expand(-1, 1, x.shape[1], -1)
        if self.wrong and torch.compiler.is_compiling():
            both = both & torch.ones(x.shape[1], x.shape[1]).tril().bool()
        bias = torch.where(both, 0.0, torch.finfo(torch.float32).min)
        made = self.model.language_model(inputs_embeds=x, attention_mask=bias, use_cache=False)
        return {"hidden": made.last_hidden_state}


def glued(wrong: bool = False):
    torch.manual_seed(0)
    ids, mask = torch.arange(5)[None] * 7, torch.ones(1, 5, dtype=torch.long)
    return Glued(wrong).eval(), (torch.randn(1, 3, 16, 16), ids, mask)


def wrong():
    return glued(wrong=True)
