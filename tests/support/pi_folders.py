"""Checkpoint folders of pi0 and pi05, small ones: openpi's and LeRobot's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from support import pi_numbers as small
from support.lerobot_folders import write_folder
from vlacut_models.layers.flow import FlowConfig, summed_times
from vlacut_models.layers.prismatic import Tower
from vlacut_models.pi.phases import network

CAMERA, STATE, JOINTS = "observation.images.front", "observation.state", 6


def sizes(kind: str, cameras: int = 2) -> FlowConfig:
    """The sizes of `pi_numbers`."""
    return FlowConfig(
        image=small.SIDE,
        patch=small.PATCH,
        cameras=cameras,
        siglip=Tower(small.VISION[0], small.VISION[2], small.VISION_HEADS, small.VISION[1]),
        width=small.LANGUAGE[0],
        hidden=small.LANGUAGE[1],
        expert_width=small.EXPERT[0],
        expert_hidden=small.EXPERT[1],
        layers=small.LANGUAGE[2],
        heads=small.HEADS,
        groups=1,
        head_width=small.HEAD_WIDTH,
        vocabulary=small.WORDS,
        prompt=small.PROMPT[kind],
        state=small.ACTIONS,
        chunk=small.CHUNK,
    )


def weights(kind: str) -> dict[str, Tensor]:
    """Weights by the published names."""
    wanted = network(kind, sizes(kind), summed_times(10)).state_dict()
    return {
        name: torch.from_numpy(small.weight(name, tuple(one.shape))) for name, one in wanted.items()
    }


def openpi_folder(folder: Path, kind: str, asset_id: str, state: int, commands: int) -> Path:
    """A folder as openpi's conversion to PyTorch writes it, with a tokeniser beside it."""
    (folder / "assets" / asset_id).mkdir(parents=True)
    save_file(weights(kind), folder / "model.safetensors")
    numbers = np.random.default_rng(1)

    def statistics(count: int) -> dict[str, list[float]]:
        middle, wide = numbers.uniform(-0.5, 0.5, count), numbers.uniform(0.5, 1.5, count)
        found = {"mean": middle, "std": wide, "q01": middle - wide, "q99": middle + wide}
        return {name: one.tolist() for name, one in found.items()}

    said = {"norm_stats": {"state": statistics(state), "actions": statistics(commands)}}
    (folder / "assets" / asset_id / "norm_stats.json").write_text(json.dumps(said))
    digits_tokenizer(folder)
    return folder


def lerobot_folder(folder: Path, kind: str, steps: Mapping[str, Any] | None = None) -> Path:
    """A folder as LeRobot 0.6 writes it, with a tokeniser in it."""
    described = {
        "type": kind,
        "input_features": {
            STATE: {"type": "STATE", "shape": [JOINTS]},
            CAMERA: {"type": "VISUAL", "shape": [3, 48, 64]},
            "observation.images.empty_camera_0": {"type": "VISUAL", "shape": [3, 224, 224]},
        },
        "output_features": {"action": {"type": "ACTION", "shape": [JOINTS]}},
        "chunk_size": small.CHUNK,
        "n_action_steps": small.CHUNK,
        "image_resolution": [224, 224],
    }
    name = "pi05_prepare_state_tokenizer_processor_step" if kind == "pi05" else ""
    tokenizer = {"max_length": small.PROMPT[kind], "tokenizer_name": "google/paligemma-3b-pt-224"}
    between = [
        {"registry_name": name or "pi0_new_line_processor", "config": {}},
        {"registry_name": "tokenizer_processor", "config": tokenizer},
        *([steps] if steps else []),
    ]
    mode = "QUANTILES" if kind == "pi05" else "MEAN_STD"
    modes = {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}
    found = {f"model.{one}": tensor for one, tensor in weights(kind).items()}
    if kind == "pi05":  # as make_pi05_pre_post_processors has them
        write_folder(folder, described, found, modes, behind=between)
    else:
        write_folder(folder, described, found, modes, between)
    digits_tokenizer(folder)
    return folder


def digits_tokenizer(folder: Path) -> None:
    """A tokeniser like PaliGemma's in what counts: a space is a part of what is behind it, digits
    are one token each, and nothing is begun by itself.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    letters = "abcdefghijklmnopqrstuvwxyzTSA:;,-0123456789_ \n\u2581"
    words = ["<pad>", "<eos>", "<bos>", "<unk>", *dict.fromkeys(letters)]
    pairs = [("\u2581", "t"), ("i", "n"), ("s", "t")]
    words += [first + second for first, second in pairs]
    made = Tokenizer(
        models.BPE({word: place for place, word in enumerate(words)}, pairs, unk_token="<unk>")
    )
    made.normalizer = normalizers.Replace(" ", "\u2581")
    made.pre_tokenizer = pre_tokenizers.Split(Regex("[0-9]"), "isolated")
    made.decoder = decoders.Replace("\u2581", " ")
    made.add_special_tokens(["<pad>", "<eos>", "<bos>"])
    made.save(str(folder / "tokenizer.json"))
    said = {"add_bos_token": True, "bos_token": "<bos>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
