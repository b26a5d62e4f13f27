"""openpi's checkpoint folders: what is around the network, and what is refused by name.

`tests/models/test_pi.py` holds the network to openpi's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.phases import run
from support.pi_folders import openpi_folder
from torch import Tensor

from vlacut.errors import ModelError
from vlacut.frontends.built import Built
from vlacut.frontends.load import OfCheckpoint, load_program
from vlacut.frontends.openpi.checkpoint import open_folder
from vlacut.frontends.openpi.program import openpi_program
from vlacut.frontends.openpi.recipe_files import read_recipe
from vlacut.frontends.openpi.recipes import RECIPES, ROBOTS
from vlacut_models.pi.openpi import pi0, pi05
from vlacut_models.pi.robots import Aloha

BASE, WRIST = "observation/image", "observation/wrist_image"
OWN = 'like = "{}"\nasset_id = "me/mine"\naction_horizon = 10\n'


def made(folder: Path, like: str, task: str = "", **shapes: tuple[int, ...]) -> Built:
    """The policy of a small checkpoint that was trained like one that is known."""
    recipe = RECIPES[like]
    robot = ROBOTS[recipe.robot]
    numbers = sum(robot.vectors.values())
    openpi_folder(folder / "c", recipe.model, "me/mine", numbers, robot.commands)
    (folder / "own.toml").write_text(OWN.format(like))
    checkpoint = open_folder(folder / "c", read_recipe(str(folder / "own.toml")), shapes, task)
    return {"pi0": pi0, "pi05": pi05}[recipe.model](checkpoint)


def drawn(built: Built) -> dict[str, Tensor]:
    """The example of everything that the robot gives."""
    found: dict[str, Tensor] = {}
    for phase in built.phases:
        found = {**phase.inputs, **found}
    return {name: found[name] for name in built.observation}


def statistics(folder: Path, name: str) -> dict[str, np.ndarray]:
    said = json.loads((folder / "c/assets/me/mine/norm_stats.json").read_text())["norm_stats"]
    return {key: np.array(value) for key, value in said[name].items()}


def test_libero_s_state_and_commands_are_scaled_as_openpi_does(tmp_path: Path) -> None:
    built = made(tmp_path, "pi0_libero", "pick it")
    [face] = {phase.module.face for phase in built.phases}
    raw = np.linspace(-1, 1, 8)
    given = {"observation/state": torch.from_numpy(raw.astype(np.float32))}
    known = statistics(tmp_path, "state")
    wanted = (raw - known["mean"]) / (known["std"] + 1e-6)
    np.testing.assert_allclose(face.state(given)[0], wanted, rtol=1e-5, atol=1e-6)
    actions = np.linspace(-1, 1, 320).reshape(1, 10, 32)
    known = statistics(tmp_path, "actions")
    plain = actions[0, :, :7] * (known["std"] + 1e-6) + known["mean"]
    plain[:, :6] += raw[:6]  # joints are relative to the state, the gripper is not
    commands = face.commands(torch.from_numpy(actions.astype(np.float32)), given)
    np.testing.assert_allclose(commands, plain, rtol=1e-5, atol=1e-6)


def test_droid_s_quantiles_are_from_minus_one_to_one(tmp_path: Path) -> None:
    built = made(tmp_path, "pi05_droid", "pick it")
    [face] = {phase.module.face for phase in built.phases}
    raw = np.linspace(-1, 1, 8).astype(np.float32)
    joints, gripper = ROBOTS["droid"].vectors
    given = {joints: torch.from_numpy(raw[:7]), gripper: torch.from_numpy(raw[7:])}
    known = statistics(tmp_path, "state")
    wanted = (raw - known["q01"]) / (known["q99"] - known["q01"] + 1e-6) * 2.0 - 1.0
    np.testing.assert_allclose(face.state(given)[0], wanted, rtol=1e-5, atol=1e-6)
    known = statistics(tmp_path, "actions")
    plain = (0.5 + 1.0) / 2.0 * (known["q99"] - known["q01"] + 1e-6) + known["q01"]
    commands = face.commands(torch.full((1, 10, 32), 0.5), given)
    np.testing.assert_allclose(commands[3], plain, rtol=1e-5, atol=1e-6)


def test_aloha_s_gripper_is_an_angle_of_the_base_model() -> None:
    # Open and closed, by the constants of openpi's _gripper_to_angular, computed by hand.
    state = torch.zeros(14)
    state[6], state[13], state[1] = 0.0, 1.0, 0.25
    found = Aloha()(state)
    angles = []
    for opening in (0.0, 1.0):
        metres = opening * (0.05800 - 0.01844) + 0.01844
        sine = (0.022**2 + metres**2 - 0.036**2) / (2 * 0.022 * metres)
        angles.append((np.arcsin(np.clip(sine, -1, 1)) - 0.5476) / (1.6296 - 0.5476))
    np.testing.assert_allclose(found[[6, 13]], angles, rtol=1e-5, atol=1e-6)
    assert found[1] == -0.25
    back = Aloha().back(torch.ones(2, 14))
    assert back[0, 2] == -1
    np.testing.assert_allclose(back[0, 6], (1 + 0.5476 + 0.6213) / (1.4910 + 0.6213), rtol=1e-6)


@pytest.mark.parametrize(
    ("like", "unread"), [("pi05_droid", ()), ("pi05_libero", ("observation/state",))]
)
def test_a_policy_reads_all_that_it_is_given(
    tmp_path: Path, like: str, unread: tuple[str, ...]
) -> None:
    built = made(tmp_path, like, "pick it")
    given = drawn(built)
    robot = ROBOTS[RECIPES[like].robot]
    assert set(given) == {*robot.cameras, *robot.vectors, "noise"} - set(unread)
    assert bool(unread) == any("reads no state here" in note for note in built.notes)
    whole = run(built, given)
    assert whole.shape == (10, robot.commands)
    for name, one in given.items():
        other = 255 - one if one.dtype == torch.uint8 else one + 0.5
        assert not torch.allclose(run(built, {**given, name: other}), whole, atol=1e-4), name


def test_without_a_prompt_its_tokens_are_inputs(tmp_path: Path) -> None:
    built = made(tmp_path, "pi0_aloha_towel", **{"images/cam_high": (48, 64, 3)})
    assert "tokenized_prompt" not in built.observation  # the configuration has one
    assert drawn(built)["images/cam_high"].shape == (48, 64, 3)
    built = made(tmp_path / "other", "pi0_aloha")
    assert {"tokenized_prompt", "tokenized_prompt_mask"} <= set(built.observation)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_of_a_robot_that_is_known(name: str) -> None:
    recipe = read_recipe(name)
    robot = ROBOTS[recipe.robot]
    assert set(recipe.cameras) <= set(robot.cameras)
    assert len(recipe.delta) in (0, robot.commands)
    assert recipe.model == name.partition("_")[0]


CONFIGS = {
    "pi0_fast_droid": "writes its actions as words",
    "pi0_libero_low_mem_finetune": "its LoRA is JAX's alone",
    "pi0_liberoo": "code of openpi that is not known here; did you mean pi0_libero",
    "none.toml": "cannot be read as TOML",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_that_is_not_known_is_refused(name: str) -> None:
    with pytest.raises(ModelError) as refused:
        read_recipe(name)
    assert CONFIGS[name] in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("asset_id = 'x'", "name the configuration that it is like"),
        ("like = 'pi0_libero'\nhorizon = 3", "no setting 'horizon'; did you mean action_horizon"),
        ("like = 'pi0_libero'\naction_horizon = '3'", "action_horizon is '3', and is like 50"),
        ("like = 'pi0_libero'\naction_horizon = 0", "out of range"),
        ("like = 'pi0_libero'\ncameras = ['observation/imag']", "did you mean observation/image"),
        ("like = 'pi0_libero'\ndelta = [1]", "delta is [1]"),
        ("like = 'pi0_libero'\nadapt_to_pi = true", "adapt_to_pi is of Aloha's joints"),
        (
            "like = 'pi0_libero'\ncameras = ['observation/wrist_image', 'observation/image']",
            "by their place, each once; write observation/image, observation/wrist_image",
        ),
        (
            "like = 'pi0_libero'\ncameras = ['observation/image', 'observation/image']",
            "by their place, each once; write observation/image",
        ),
        (f"like = {'[' * 5000}", "cannot be read as TOML"),
    ],
)
def test_a_file_of_one_s_own_is_refused_with_its_reason(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(ModelError) as refused:
        read_recipe(str(tmp_path / "own.toml"))
    assert said in str(refused.value)


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetens"),
    "JAX's": (
        lambda folder: ((folder / "model.safetensors").unlink(), (folder / "params").mkdir()),
        "convert_jax_model_to_pytorch.py makes it",
    ),
    "no statistics": (
        lambda folder: (folder / "assets/droid").rename(folder / "assets/mine"),
        "there is mine: say asset_id",
    ),
    "few numbers": (
        lambda folder: (folder / "assets/droid/norm_stats.json").write_text(
            '{"norm_stats": {"state": {"q01": [1], "q99": [2]}}}'
        ),
        "q01 of state needs 8 numbers",
    ),
    "a number beyond all": (
        lambda folder: (folder / "assets/droid/norm_stats.json").write_text(
            '{"norm_stats": {"state": {"q01": [1%s], "q99": [2]}}}' % ("0" * 400)
        ),
        "q01 of state is no list of numbers",
    ),
    "a number beyond float32": (
        lambda folder: (folder / "assets/droid/norm_stats.json").write_text(
            '{"norm_stats": {"state": {"q01": [1e39, 0, 0, 0, 0, 0, 0, 0], "q99": [2]}}}'
        ),
        "q01 of state needs 8 numbers",
    ),
    "another model's tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text(
            re.sub(r'"T": \d+', '"T": 99999', (folder / "tokenizer.json").read_text())
        ),
        "it is another model's",
    ),
    "another horizon": (
        lambda folder: (folder / "config.json").write_text('{"action_horizon": 10}'),
        "action_horizon is 10, and that of pi05_droid is 15",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "--task needs the token"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_folder_is_refused_with_its_reason(tmp_path: Path, case: str) -> None:
    change, said = WRONG[case]
    folder = openpi_folder(tmp_path / "c", "pi05", "droid", 8, 8)
    change(folder)
    with pytest.raises(ModelError) as refused:
        openpi_program(folder, "pi05_droid", task="pick it")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("config", "more", "said"),
    [
        ("", {}, "name the configuration that it was trained by with --config: pi0_aloha"),
        ("pi0_droid", {}, "its weights are pi05's, and pi0_droid is of pi0"),
        ("pi05_droid", {"fixed": {"x": (1.0,)}}, "--task fixes a prompt"),
        ("pi05_droid", {"shapes": {"base": (4, 4, 3)}}, "--shape base: is no camera of pi05_droid"),
    ],
)
def test_what_does_not_go_with_a_folder_is_refused(
    tmp_path: Path, config: str, more: dict[str, Any], said: str
) -> None:
    folder = openpi_folder(tmp_path / "c", "pi05", "droid", 8, 8)
    with pytest.raises(ModelError) as refused:
        load_program(f"openpi:{folder}", of_checkpoint=OfCheckpoint(config=config), **more)
    assert said in str(refused.value)
