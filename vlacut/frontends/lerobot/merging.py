"""An adapter of peft's beside a checkpoint, merged into the weights that it changes.

    W' = W + (alpha / r) * B @ A        for linear layers; alpha / sqrt(r) with rslora

Source: Hu et al., LoRA (arXiv 2106.09685), section 4.1; huggingface/peft, LoraConfig.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from vlacut.errors import ModelError
from vlacut.frontends.checkpoint import open_checkpoint
from vlacut.frontends.json_files import read_json

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
# What changes more than the product of two matrices, and what it has where it changes nothing.
_REFUSED = {
    "use_dora": False,
    "fan_in_fan_out": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "bias": "none",
    "lora_bias": False,
    "megatron_config": None,
    "layer_replication": None,
    "target_parameters": None,
    "trainable_token_indices": None,
}


def base_folder(folder: Path) -> Path:
    """Where the weights are that an adapter changes: the folder itself, or the one it names.

    Raises ModelError where that is not on this machine.
    """
    if not (folder / _CONFIG).is_file() or (folder / "model.safetensors").is_file():
        return folder
    base = read_json(folder / _CONFIG).get("base_model_name_or_path")
    if isinstance(base, str) and base and (Path(base) / "model.safetensors").is_file():
        return Path(base)
    raise ModelError(
        f"{folder / _CONFIG}: the adapter is of {base!r:.100}, which is no folder with a "
        f"model.safetensors here; copy that file into {folder}"
    )


def merge_adapter(folder: Path, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the folder's adapter merged, where it has one.

    Raises ModelError for an adapter that is no LoRA of linear layers, or does not fit.
    """
    if not (folder / _CONFIG).is_file():
        return weights
    config = read_json(folder / _CONFIG)
    where = folder / _CONFIG
    if config.get("peft_type") != "LORA":
        raise ModelError(
            f"{where}: peft_type {config.get('peft_type')!r:.40} is not merged: LORA is"
        )
    for key, but in _REFUSED.items():
        if config.get(key, but) not in (but, None):
            raise ModelError(
                f"{where}: {key} = {config[key]!r:.60} is not merged; merge it by peft"
            )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or rank < 1 or not isinstance(alpha, (int, float)):
        raise ModelError(f"{where}: r = {rank!r:.40} and lora_alpha = {alpha!r:.40} are no LoRA")
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    open_checkpoint([folder / _WEIGHTS])
    return _merged(folder / _WEIGHTS, weights, load_file(folder / _WEIGHTS), scale)


def _merged(
    file: Path, weights: dict[str, Tensor], adapter: Mapping[str, Tensor], scale: float
) -> dict[str, Tensor]:
    made = dict(weights)
    for name, tensor in adapter.items():
        plain = name.removeprefix(_PREFIX)
        if plain.endswith(_B):
            continue
        if not plain.endswith(_A):
            # `modules_to_save` are whole: they take the place of what was there.
            if plain not in made or made[plain].shape != tensor.shape:
                raise ModelError(f"{file}: {name} changes no weight of the checkpoint")
            made[plain] = tensor
            continue
        target, other = plain.removesuffix(_A) + ".weight", name.removesuffix(_A) + _B
        if target not in made or other not in adapter:
            raise ModelError(
                f"{file}: {name} has no {other}, or changes no weight of the checkpoint"
            )
        weight, product = made[target], adapter[other].float() @ tensor.float()
        if weight.shape != product.shape:
            raise ModelError(
                f"{file}: {name} makes {list(product.shape)}, and the weight is "
                f"{list(weight.shape)}"
            )
        made[target] = (weight.float() + scale * product).to(weight.dtype)
    return made
