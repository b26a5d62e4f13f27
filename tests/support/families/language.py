"""Families of words alone."""

from __future__ import annotations

from typing import Any

import torch
import transformers as t
from torch import nn

from .common import FAMILIES, TEXT, Family, family, ids, spoken

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


FAMILIES.update(
    {
        "gemma2": causal("Gemma2Config", "Gemma2ForCausalLM", head_dim=8),
        "gemma3": causal("Gemma3TextConfig", "Gemma3ForCausalLM", head_dim=8, sliding_window=4),
        "phi3": causal("Phi3Config", "Phi3ForCausalLM"),
        "qwen2": causal("Qwen2Config", "Qwen2ForCausalLM"),
        "qwen3": causal("Qwen3Config", "Qwen3ForCausalLM", head_dim=8),
        "mistral": causal("MistralConfig", "MistralForCausalLM", sliding_window=4),
        "smollm3": causal("SmolLM3Config", "SmolLM3ForCausalLM"),
        "mamba": causal("MambaConfig", "MambaForCausalLM"),
    }
)


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
