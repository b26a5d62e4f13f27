"""Checkpoint folders in LeRobot's format, small ones, with weights from a seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

CAMERA, STATE = "observation.images.front", "observation.state"
HEIGHT, WIDTH, JOINTS, CHUNK = 48, 64, 6, 5
ACT = {
    "type": "act",
    "n_obs_steps": 1,
    "chunk_size": CHUNK,
    "n_action_steps": CHUNK,
    "dim_model": 32,
    "n_heads": 4,
    "dim_feedforward": 48,
    "n_encoder_layers": 2,
    "n_decoder_layers": 1,
    "latent_dim": 8,
    "vision_backbone": "resnet18",
    "feedforward_activation": "relu",
    "pre_norm": False,
}


def features(cameras: Sequence[str] = (CAMERA,), size: Sequence[int] = (HEIGHT, WIDTH)) -> Any:
    """The features of a policy with cameras and a state."""
    pictures = {name: {"type": "VISUAL", "shape": [3, *size]} for name in cameras}
    return {
        "input_features": {STATE: {"type": "STATE", "shape": [JOINTS]}, **pictures},
        "output_features": {"action": {"type": "ACTION", "shape": [JOINTS]}},
    }


def statistics(described: Mapping[str, Any]) -> dict[str, Tensor]:
    """Statistics of every kind, by LeRobot's flat names."""
    numbers = torch.Generator().manual_seed(3)
    found = {}
    for name, one in {**described["input_features"], **described["output_features"]}.items():
        shape = (3, 1, 1) if one["type"] == "VISUAL" else tuple(one["shape"])
        middle = torch.rand(shape, generator=numbers)
        for kind, value in (
            ("mean", middle),
            ("std", torch.rand(shape, generator=numbers) + 0.2),
            ("min", middle - 1),
            ("max", middle + 2),
            ("q01", middle - 0.5),
            ("q99", middle + 0.75),
        ):
            found[f"{name}.{kind}"] = value
    return found


def write_folder(
    folder: Path,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    modes: Mapping[str, str],
    between: Sequence[Mapping[str, Any]] = (),
    renamed: Mapping[str, str] | None = None,
    behind: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """A folder as `save_pretrained` of LeRobot 0.4 writes it.

    Args:
        folder: to make.
        config: of `config.json`.
        weights: of `model.safetensors`.
        modes: of normalisation, by kind of feature.
        between: steps between the batch's and the device's: those of a prompt.
        renamed: the rename map.
        behind: steps behind the normalisation: those of a prompt with the state in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(dict(weights), folder / "model.safetensors")
    found = statistics(config)
    scaling = {
        "eps": 1e-8,
        "features": {**config["input_features"], **config["output_features"]},
        "norm_map": dict(modes),
    }
    before = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": renamed or {}}},
        {"registry_name": "to_batch_processor", "config": {}},
        *between,
        {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}},
    ]
    place = len(before)
    scaled = f"policy_preprocessor_step_{place}_normalizer_processor.safetensors"
    before.append(
        {"registry_name": "normalizer_processor", "config": scaling, "state_file": scaled}
    )
    before += behind
    undone = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
    of_action = {**scaling, "features": config["output_features"]}
    after = [
        {"registry_name": "unnormalizer_processor", "config": of_action, "state_file": undone},
        {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}},
    ]
    for name, steps in (("policy_preprocessor", before), ("policy_postprocessor", after)):
        (folder / f"{name}.json").write_text(json.dumps({"name": name, "steps": steps}))
    save_file(found, folder / scaled)
    save_file(found, folder / undone)
    return folder


def random_weights(module: nn.Module, prefix: str = "model.", seed: int = 0) -> dict[str, Tensor]:
    """Weights for a module of shapes, so that its outputs depend on its inputs."""
    numbers = torch.Generator().manual_seed(seed)
    made = {}
    for name, like in module.state_dict().items():
        drawn = torch.randn(like.shape, generator=numbers)
        if like.dim() > 1:
            drawn = drawn * (like[0].numel() ** -0.5)
        elif name.endswith(("norm.weight", "weight", "running_var")):
            drawn = 1 + 0.1 * drawn.abs()
        else:
            drawn = 0.1 * drawn
        made[prefix + name] = drawn.to(like.dtype)
    return made
