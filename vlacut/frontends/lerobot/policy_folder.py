"""The folder that LeRobot's commands take as `--policy.path`, for a bundle of a checkpoint's.

    OUT/config.json                  type vlacut, features by the robot's names, the checkpoint
    OUT/policy_{pre,post}processor.json      of steps that change no number: those are in the bundle
    OUT/policy.vlacut                the bundle

`tools/lerobot_policy_vlacut` registers that type in LeRobot, from 0.4.3 on.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from vlacut.bundle.staging import write_file
from vlacut.errors import InputError, ModelError
from vlacut.frontends.lerobot.config import ACTIONS, Config, Feature, read_config
from vlacut.frontends.lerobot.steps import BEFORE, read_steps
from vlacut.frontends.standalone import vlacut_lerobot

BUNDLE = "policy.vlacut"
_EMPTY = "observation.images.empty_camera_"  # of a training with more cameras; no bundle reads it
_DEVICE = {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}}
_STEPS = {
    "policy_preprocessor": [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
        {"registry_name": "to_batch_processor", "config": {}},
        _DEVICE,
    ],
    "policy_postprocessor": [_DEVICE],
}


def place_for(out: Path) -> Path:
    """Where the bundle of such a folder is written.

    Raises InputError if `out` is something else already.
    """
    there = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if there and not (out / BUNDLE).is_dir():
        raise InputError(
            f"{out}: is there, and is no policy's folder; choose another place with -o"
        )
    return out / BUNDLE


def check_policy(checkpoint: Path, task: str) -> None:
    """Raise ModelError where no such folder can be written of a checkpoint, before it is compiled.

    Args:
        checkpoint: to compile.
        task: the prompt of the bundle; empty for one whose tokens are inputs.
    """
    steps = read_steps(checkpoint, BEFORE)
    _described(read_config(checkpoint), steps.renamed)
    if steps.tokenizer is not None and not task:
        raise ModelError(
            f"{checkpoint}: its policy reads a prompt, and LeRobot gives a bundle no tokens; say "
            f"the prompt with --task"
        )


def write_policy_folder(out: Path, checkpoint: Path) -> None:
    """Write what is beside the bundle.

    Args:
        out: with the bundle, as `place_for` has it.
        checkpoint: that it was compiled from.

    Raises ModelError for a folder that is no checkpoint, and InputError if it cannot be written.
    """
    config = read_config(checkpoint)
    texts = {f"{name}.json": {"name": name, "steps": steps} for name, steps in _STEPS.items()}
    texts["config.json"] = {
        **_described(config, read_steps(checkpoint, BEFORE).renamed),
        # From here, so that both may move; by its digest, for another one may take its place.
        "checkpoint": os.path.relpath(checkpoint.resolve(), out.resolve()),
        "checkpoint_digest": vlacut_lerobot.digest_of(checkpoint),
    }
    for name, said in texts.items():
        try:
            write_file(out / name, json.dumps(said, indent=2) + "\n")
        except OSError as error:
            raise InputError(f"{out / name}: cannot be written: {error.strerror}") from error


def _described(config: Config, renamed: dict[str, str]) -> dict[str, Any]:
    steps = config.settings.get("n_action_steps", 1)
    if type(steps) is not int or steps < 1:
        raise ModelError(f"{config.folder / 'config.json'}: n_action_steps is {steps!r:.40}")
    return {
        "type": "vlacut",
        "n_obs_steps": config.count("n_obs_steps", 1),
        "input_features": {
            renamed.get(name, name): _feature(one)
            for name, one in config.inputs.items()
            if not name.startswith(_EMPTY)
        },
        "output_features": {ACTIONS: _feature(config.outputs[ACTIONS])},
        "device": "cpu",
        "bundle": BUNDLE,
        "n_action_steps": steps,
    }


def _feature(one: Feature) -> dict[str, Any]:
    return {"type": one.kind, "shape": list(one.shape)}
