"""Sizes of a pi0 or pi05: the checkpoint's tensors tell all but the numbers of heads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vlacut.errors import ModelError
from vlacut_models.layers.flow import FlowConfig
from vlacut_models.layers.prismatic import Tower

_PALIGEMMA = "paligemma_with_expert.paligemma"
_EXPERT = "paligemma_with_expert.gemma_expert.model"
_VISION = f"{_PALIGEMMA}.model.vision_tower.vision_model"
_LANGUAGE = f"{_PALIGEMMA}.model.language_model"
HEAD = f"{_PALIGEMMA}.lm_head.weight"
_EMBEDDING = f"{_LANGUAGE}.embed_tokens.weight"
# Of every published variant: openpi, src/openpi/models/gemma.py; PaliGemma's SigLIP.
_HEADS, _VISION_HEADS = 8, 16


def tie(weights: dict[str, Tensor]) -> None:
    """Find the embedding by the name of the head that it is tied to, as files have either."""
    if HEAD not in weights and _EMBEDDING in weights:
        weights[HEAD] = weights[_EMBEDDING]


def sizes(
    where: Path,
    weights: Mapping[str, Tensor],
    cameras: int,
    prompt: int,
    chunk: int,
    steps: int,
) -> FlowConfig:
    """The sizes of the network.

    Args:
        where: of the weights, for the error.
        weights: by the names of the published checkpoints.
        cameras: that are not masked.
        prompt: tokens of the padded prompt.
        chunk: actions in a chunk.
        steps: of the integration.

    Raises ModelError for weights of neither policy.
    """

    def shape(name: str, axes: int = 2) -> tuple[int, ...]:
        if name not in weights:
            raise ModelError(f"{where}: lacks {name}: is it a checkpoint of pi0 or pi05?")
        found = tuple(weights[name].shape)
        if len(found) != axes or min(found) < 1:
            raise ModelError(f"{where}: {name} is {list(found)}, not of {axes} axes")
        return found

    width, channels, patch, _ = shape(f"{_VISION}.embeddings.patch_embedding.weight", 4)
    across = math.isqrt(shape(f"{_VISION}.embeddings.position_embedding.weight")[0])
    queries = shape(f"{_LANGUAGE}.layers.0.self_attn.q_proj.weight")[0]
    keys = shape(f"{_LANGUAGE}.layers.0.self_attn.k_proj.weight")[0]
    expert, actions = shape("action_in_proj.weight")
    layers, expert_layers = _count(weights, _LANGUAGE), _count(weights, _EXPERT)
    if channels != 3 or queries % _HEADS or keys % (queries // _HEADS) or layers != expert_layers:
        raise ModelError(f"{where}: its sizes are of no pi0 or pi05 that is known")
    vocabulary, language = shape(HEAD)
    return FlowConfig(
        image=across * patch,
        patch=patch,
        cameras=cameras,
        siglip=Tower(
            width,
            _count(weights, f"{_VISION}.encoder"),
            _VISION_HEADS,
            shape(f"{_VISION}.encoder.layers.0.mlp.fc1.weight")[0],
        ),
        width=language,
        hidden=shape(f"{_LANGUAGE}.layers.0.mlp.gate_proj.weight")[0],
        expert_width=expert,
        expert_hidden=shape(f"{_EXPERT}.layers.0.mlp.gate_proj.weight")[0],
        layers=layers,
        heads=_HEADS,
        groups=keys // (queries // _HEADS),
        head_width=queries // _HEADS,
        vocabulary=vocabulary,
        prompt=prompt,
        state=actions,
        chunk=chunk,
        steps=steps,
    )


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Layers below a name."""
    start = f"{prefix}.layers."
    return len({name[len(start) :].partition(".")[0] for name in weights if name.startswith(start)})
