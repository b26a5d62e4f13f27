"""Experts of transformers' mixtures as products that have an ONNX form and static shapes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def dense_experts(
    self: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """What transformers' experts compute, in its interface for implementations of them.

    Where fewer pairs of token and expert were chosen than there are experts, only their weights are
    read, once for each pair. Else every expert computes every token, and what was not chosen counts
    nothing: no weight is read twice.

    Args:
        self: the module of the experts.
        hidden_states: [tokens, width].
        top_k_index: [tokens, k], the experts of each token.
        top_k_weights: [tokens, k], their shares.

    Returns [tokens, width].
    """
    tokens, width = hidden_states.shape
    if top_k_index.numel() < self.num_experts:
        chosen = top_k_index.reshape(-1)
        given = hidden_states.repeat_interleave(top_k_index.shape[-1], dim=0)[:, None]
        made = _compute(self, given, chosen)[:, 0] * top_k_weights.reshape(-1, 1)
        return made.view(tokens, -1, width).sum(dim=1).to(hidden_states.dtype)
    shares = torch.zeros(tokens, self.num_experts, dtype=top_k_weights.dtype)
    shares = shares.scatter(1, top_k_index, top_k_weights)
    made = _compute(self, hidden_states[None], None) * shares.T[:, :, None]
    return made.sum(dim=0).to(hidden_states.dtype)


def _compute(experts: Any, given: Tensor, chosen: Tensor | None) -> Tensor:
    """Experts [E] on tokens: [1, tokens, width] for all, or [E, 1, width] for chosen ones."""
    up = "gate_up_proj" if experts.has_gate else "up_proj"
    hidden = _linear(experts, up, given, chosen)
    hidden = experts._apply_gate(hidden) if experts.has_gate else experts.act_fn(hidden)
    made = _linear(experts, "down_proj", hidden, chosen)
    return experts.post_expert_norm(made) if experts.has_post_expert_norm else made


def _linear(experts: Any, name: str, given: Tensor, chosen: Tensor | None) -> Tensor:
    weight: Tensor = getattr(experts, name)
    weight = weight if chosen is None else weight[chosen]
    made = given @ (weight if experts.is_transposed else weight.transpose(1, 2))
    if not experts.has_bias:
        return made
    bias: Tensor = getattr(experts, f"{name}_bias")
    return made + (bias if chosen is None else bias[chosen])[:, None]
