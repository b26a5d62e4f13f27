"""Sizes of a SmolVLA: the checkpoint's tensors tell all but the widths of heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vlacut.errors import ModelError
from vlacut.frontends.json_files import read_json
from vlacut.frontends.lerobot.config import Config
from vlacut.frontends.prompts.tokens import find_file
from vlacut_models.layers.flow import FlowConfig
from vlacut_models.layers.prismatic import Tower

_VLM = "vlm_with_expert.vlm.model"
_TEXT, _VISION = f"{_VLM}.text_model", f"{_VLM}.vision_model"
_EXPERT = "vlm_with_expert.lm_expert"


@dataclass(frozen=True)
class Vlm:
    """What no tensor tells of a vision-language model.

    Attributes:
        head_width: of the text model's heads.
        vision_heads: heads of the vision tower.
        epsilon: of the text model's norms, and the expert's.
    """

    head_width: int
    vision_heads: int
    epsilon: float = 1e-5


_LLAMA_EPSILON = 1e-6  # of a configuration that does not say
# Published configurations of the models that checkpoints are trained from.
_KNOWN = {
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": Vlm(64, 12),
    "HuggingFaceTB/SmolVLM2-256M-Video-Instruct": Vlm(64, 12),
}


def known_vlm(config: Config) -> Vlm:
    """The vision-language model that a checkpoint was trained from.

    Raises ModelError where its `config.json` is neither on this machine nor known here.
    """
    name = config.of("vlm_model_name", "HuggingFaceTB/SmolVLM2-500M-Video-Instruct")
    file = find_file(config.folder, name, "config.json")
    if file is None and name in _KNOWN:
        return _KNOWN[name]
    if file is None:
        raise ModelError(
            f"{config.folder}: trained from {name}, whose config.json is not in the Hub's cache on "
            f"this machine; known without it: {', '.join(_KNOWN)}"
        )
    said = read_json(file)
    text, vision = said.get("text_config"), said.get("vision_config")
    if not isinstance(text, dict) or not isinstance(vision, dict):
        raise ModelError(f"{file}: has no text_config and vision_config")
    width, heads = text.get("head_dim"), vision.get("num_attention_heads")
    if width is None and text.get("num_attention_heads"):
        width = text.get("hidden_size", 0) // text["num_attention_heads"]
    if type(width) is not int or type(heads) is not int or min(width, heads) < 1:
        raise ModelError(
            f"{file}: needs text_config.head_dim and vision_config.num_attention_heads"
        )
    epsilon = text.get("rms_norm_eps", _LLAMA_EPSILON)
    if type(epsilon) not in (int, float):
        raise ModelError(f"{file}: rms_norm_eps is {epsilon!r:.40}")
    return Vlm(width, heads, float(epsilon))


def sizes(
    config: Config, vlm: Vlm, weights: Mapping[str, Tensor], side: int, cameras: int, prompt: int
) -> FlowConfig:
    """The sizes of the network.

    Args:
        config: of the policy.
        vlm: what no tensor tells.
        weights: by name, without `model.`.
        side: of the pictures that the tower reads.
        cameras: that the robot has.
        prompt: tokens of the prompt.

    Raises ModelError for tensors that are missing, or sizes that do not go together.
    """

    def shape(name: str, axes: int = 2) -> tuple[int, ...]:
        if name not in weights:
            raise ModelError(f"{config.folder}: its weights have no model.{name}")
        found = tuple(weights[name].shape)
        if len(found) != axes or min(found) < 1:
            raise ModelError(f"{config.folder}: model.{name} is {list(found)}, not of {axes} axes")
        return found

    layers, depth = (_count(weights, f"{one}.layers") for one in (_TEXT, f"{_VISION}.encoder"))
    if _count(weights, f"{_EXPERT}.layers") != layers:
        raise ModelError(f"{config.folder}: an expert of fewer layers than the VLM is not compiled")
    tower_width, _, patch, _ = shape(f"{_VISION}.embeddings.patch_embedding.weight", 4)
    joined = shape(f"{_VLM}.connector.modality_projection.proj.weight")[1]
    vocabulary, width = shape(f"{_TEXT}.embed_tokens.weight")
    shuffle = round((joined / tower_width) ** 0.5)
    queries = shape(f"{_TEXT}.layers.0.self_attn.q_proj.weight")[0]
    keys = shape(f"{_TEXT}.layers.0.self_attn.k_proj.weight")[0]
    if queries % vlm.head_width or keys % vlm.head_width or not shuffle or side % (patch * shuffle):
        raise ModelError(
            f"{config.folder}: heads of {vlm.head_width}, patches of {patch} and pictures of "
            f"{side} pixels do not go together"
        )
    hidden = shape(f"{_VISION}.encoder.layers.0.mlp.fc1.weight")[0]
    return FlowConfig(
        image=side,
        patch=patch,
        cameras=cameras,
        siglip=Tower(tower_width, depth, vlm.vision_heads, hidden),
        shuffle=shuffle,
        width=width,
        hidden=shape(f"{_TEXT}.layers.0.mlp.gate_proj.weight")[0],
        expert_width=shape("action_in_proj.weight")[0],
        expert_hidden=shape(f"{_EXPERT}.layers.0.mlp.gate_proj.weight")[0],
        layers=layers,
        heads=queries // vlm.head_width,
        groups=keys // vlm.head_width,
        head_width=vlm.head_width,
        vocabulary=vocabulary,
        prompt=prompt,
        state=shape("action_in_proj.weight")[1],
        reads_state=True,
        chunk=config.count("chunk_size", 50),
        steps=config.count("num_steps", 10),
    )


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Layers below a name."""
    found = {
        name[len(prefix) + 1 :].partition(".")[0] for name in weights if name.startswith(prefix)
    }
    return len(found)
