"""The folder for LeRobot's `--policy.path`: what is written, and where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.commands import Vlacut
from support.lerobot_folders import ACT, CAMERA, JOINTS, STATE, features, write_folder

from vlacut.errors import InputError, ModelError
from vlacut.frontends.lerobot.policy_folder import (
    BUNDLE,
    check_policy,
    place_for,
    write_policy_folder,
)
from vlacut.frontends.standalone.vlacut_lerobot import digest_of

MODES = {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "QUANTILES"}


def test_features_go_by_the_robot_s_names(tmp_path: Path) -> None:
    renamed, weights = {"observation.images.top": CAMERA}, {"model.x": torch.zeros(1)}
    described = {**ACT, **features(), "n_action_steps": 3}
    checkpoint = write_folder(tmp_path / "act", described, weights, MODES, renamed=renamed)
    out = tmp_path / "policy"
    assert place_for(out) == out / BUNDLE
    (out / BUNDLE).mkdir(parents=True)
    write_policy_folder(out, checkpoint)
    said = json.loads((out / "config.json").read_text())
    assert (said["type"], said["n_action_steps"], said["bundle"]) == ("vlacut", 3, BUNDLE)
    assert set(said["input_features"]) == {STATE, "observation.images.top"}
    assert said["output_features"] == {"action": {"type": "ACTION", "shape": [JOINTS]}}
    assert said["checkpoint"] == "../act"
    assert said["checkpoint_digest"] == digest_of(checkpoint)
    (checkpoint / "train_config.json").write_text("{}")  # says nothing of the policy
    assert said["checkpoint_digest"] == digest_of(checkpoint)
    (checkpoint / "model.safetensors").write_bytes(b"another")
    assert said["checkpoint_digest"] != digest_of(checkpoint)
    steps = json.loads((out / "policy_preprocessor.json").read_text())["steps"]
    assert [one["registry_name"] for one in steps] == [
        "rename_observations_processor",
        "to_batch_processor",
        "device_processor",
    ]
    assert place_for(out) == out / BUNDLE  # again, over itself


def test_what_cannot_be_written_is_said_before_anything_is_compiled(
    vlacut: Vlacut, tmp_path: Path
) -> None:
    weights, tokens = {"model.x": torch.zeros(1)}, {"registry_name": "tokenizer_processor"}
    folder = write_folder(tmp_path / "a", {**ACT, **features()}, weights, MODES, [tokens])
    check_policy(folder, "pick it")
    with pytest.raises(ModelError, match="reads a prompt, and LeRobot gives a bundle no tokens"):
        check_policy(folder, "")
    described = {**ACT, **features(), "n_action_steps": 0}
    folder = write_folder(tmp_path / "b", described, weights, MODES)
    words = ["--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "1GB/s,0.1ms"]
    out = tmp_path / "policy"
    status, _, said = vlacut("compile", f"lerobot:{folder}", *words, "-o", out, "--lerobot")
    assert status == 2
    assert "n_action_steps is 0" in " ".join(said.split())
    assert not out.exists()


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(InputError, match="is no policy's folder"):
        place_for(tmp_path)


def test_the_option_is_of_a_checkpoint(vlacut: Vlacut, tmp_path: Path) -> None:
    words = ["--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "1GB/s,0.1ms"]
    out = ("-o", tmp_path / "x", "--lerobot")
    status, _, said = vlacut("compile", "vit-mlp:tiny", *words, *out)
    assert status
    assert "--lerobot goes with lerobot:DIR" in said
