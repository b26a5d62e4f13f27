"""LeRobot's checkpoint folders: what is read of them, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.lerobot_folders import ACT, CAMERA, JOINTS, STATE, features, statistics, write_folder

from vlacut.errors import ModelError
from vlacut.frontends.lerobot.checkpoint import Checkpoint, open_folder
from vlacut.frontends.lerobot.original import LerobotProcess
from vlacut.frontends.lerobot.program import lerobot_program
from vlacut.frontends.lerobot.tokens import MASK, TOKENS
from vlacut.frontends.load import OfCheckpoint, load_program

MODES = {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "QUANTILES"}
CONFIG = {**ACT, **features()}
PROMPT = [
    {"registry_name": "smolvla_new_line_processor", "config": {}},
    {
        "registry_name": "tokenizer_processor",
        "config": {"max_length": 6, "padding_side": "right", "padding": "max_length"},
    },
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "act", CONFIG, {"model.x": torch.zeros(1)}, MODES)


def test_tensors_are_scaled_as_lerobot_scales_them(folder: Path) -> None:
    checkpoint = open_folder(folder, {}, "")
    raw = checkpoint.examples()
    known = {name: one.numpy() for name, one in statistics(CONFIG).items()}
    found = {name: one.numpy() for name, one in checkpoint.ahead(raw).items()}
    picture = raw[CAMERA].numpy().transpose(2, 0, 1).astype(np.float32) / 255
    mean, std = known[f"{CAMERA}.mean"], known[f"{CAMERA}.std"] + np.float32(1e-8)
    np.testing.assert_array_equal(found[CAMERA][0], (picture - mean) / std)
    low, high = known[f"{STATE}.min"], known[f"{STATE}.max"]
    scaled = 2 * (raw[STATE].numpy() - low) / (high - low) - 1
    np.testing.assert_array_equal(found[STATE][0], scaled)
    actions = np.linspace(-1, 1, 3 * JOINTS, dtype=np.float32).reshape(1, 3, JOINTS)
    first, last = known["action.q01"], known["action.q99"]
    plain = (actions[0] + 1) / 2 * (last - first) + first
    np.testing.assert_array_equal(checkpoint.behind(torch.from_numpy(actions)).numpy(), plain)


def test_names_of_the_robot_are_those_before_the_rename(tmp_path: Path) -> None:
    renamed = {"observation.images.top": CAMERA}
    weights = {"model.x": torch.zeros(1)}
    made = write_folder(tmp_path / "act", CONFIG, weights, MODES, renamed=renamed)
    checkpoint = open_folder(made, {"observation.images.top": (8, 12, 3)}, "")
    assert checkpoint.raw_name(CAMERA) == "observation.images.top"
    assert checkpoint.examples()[CAMERA].shape == (8, 12, 3)


def edited(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        said = json.loads((folder / name).read_text())
        change(said)
        (folder / name).write_text(json.dumps(said))

    return edit


def step(place: int, **values: Any) -> Callable[[Path], None]:
    return edited("policy_preprocessor.json", lambda said: said["steps"][place].update(values))


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "an unknown step": (
        step(1, registry_name="gripper_penalty_processor"),
        "step 1, 'gripper_penalty_processor', is not known here",
    ),
    "statistics outside": (step(3, state_file="../x.safetensors"), "is no name of a file"),
    "statistics that are not there": (step(3, state_file="x.safetensors"), "cannot be read"),
    "a mode of nobody's": (
        step(3, config={"norm_map": {"STATE": "LOG"}, "features": CONFIG["input_features"]}),
        "mode 'LOG' of STATE",
    ),
    "a name that is a list": (step(1, registry_name=["x"]), "step 1, ['x'], is not known here"),
    "a mode that is a list": (
        step(3, config={"norm_map": {"STATE": [1]}, "features": CONFIG["input_features"]}),
        "mode [1] of STATE",
    ),
    "a kind that is a list": (
        step(3, config={"norm_map": {}, "features": {STATE: {"type": ["STATE"]}}}),
        "mode None of ['STATE']",
    ),
    "names that are a number": (
        step(3, config={"norm_map": {}, "features": {}, "normalize_observation_keys": 5}),
        "normalize_observation_keys is 5",
    ),
    "an epsilon beyond all": (
        step(3, config={"norm_map": {}, "features": {}, "eps": 10**400}),
        "eps is 1000",
    ),
    "more layers than fit": (
        edited("config.json", lambda said: said.update(n_encoder_layers=1 << 40)),
        "n_encoder_layers is 1099511627776, and must be from 1 to 4096",
    ),
    "half floats": (step(2, config={"float_dtype": "float16"}), "float_dtype 'float16'"),
    "no steps": (lambda folder: (folder / "policy_postprocessor.json").unlink(), "before 0.4"),
    "no type": (edited("config.json", lambda said: said.pop("type")), "is no LeRobot|pretrained"),
    "another type": (edited("config.json", lambda said: said.update(type="actt")), "act"),
    "no action": (
        edited(
            "config.json",
            lambda said: said.update(output_features={"a": {"type": "ACTION", "shape": [1]}}),
        ),
        "has no action of one axis",
    ),
    "a picture of two axes": (
        edited("config.json", lambda said: said["input_features"][CAMERA].update(shape=[3, 4])),
        "is no picture",
    ),
    "a shape of nobody's": (
        edited(
            "config.json", lambda said: said["input_features"][CAMERA].update(shape=[3, 1 << 40, 9])
        ),
        "too large",
    ),
    "statistics of another shape": (
        edited("config.json", lambda said: said["input_features"][STATE].update(shape=[7])),
        "statistics of observation.state are of shape [6]",
    ),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), "is no JSON"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_folder_is_refused_with_its_reason(folder: Path, case: str) -> None:
    change, said = WRONG[case]
    change(folder)
    with pytest.raises(ModelError) as refused:
        lerobot_program(folder)
    assert any(one in str(refused.value) for one in said.split("|")), refused.value


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        ("lerobot:{}/none", {}, "no such folder"),
        ("lerobot:{}", {"of_checkpoint": OfCheckpoint(task="fold")}, "reads no task"),
        ("lerobot:{}", {"shapes": {"wrist": (1, 1, 3)}}, "is no camera of"),
        ("lerobot:{}", {"shapes": {CAMERA: (3, 48, 64)}}, "write height x width x channels"),
        ("lerobot:{}", {"fixed": {"x": (1.0,)}}, "--task fixes a prompt"),
        (
            "vit-mlp:tiny",
            {"of_checkpoint": OfCheckpoint(task="fold")},
            "are of checkpoints: lerobot:DIR",
        ),
    ],
)
def test_what_does_not_go_with_a_folder_is_refused(
    folder: Path, model: str, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError) as refused:
        load_program(model.format(folder), **more)
    assert said in str(refused.value)


def test_a_setting_is_of_its_kind_and_one_that_is_not_compiled_is_refused(folder: Path) -> None:
    config = open_folder(folder, {}, "").config
    assert config.of("dim_model", 512) == 32
    assert config.of("nobody_s", 1.5) == 1.5
    with pytest.raises(ModelError, match=r"vision_backbone is 'resnet18', and must be of the kind"):
        config.of("vision_backbone", 3)
    with pytest.raises(ModelError, match=r"n_obs_steps = 1 is not compiled: it reads two"):
        config.refuse("n_obs_steps", 2, "it reads two")


def test_weights_that_do_not_fit_are_listed(folder: Path) -> None:
    checkpoint, module = open_folder(folder, {}, ""), torch.nn.Linear(2, 3)
    with pytest.raises(ModelError) as refused:
        checkpoint.fill(module, {"weight": torch.zeros(2, 3)})
    assert "lacks bias; weight [2, 3], must be [3, 2]" in str(refused.value)


def tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"?": 0, "pick": 1, "it": 2, "up\n": 3, "<p>": 9}, "?"))
    made.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    (folder / "tokenizer").mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer" / "tokenizer.json"))
    settings = {"pad_token": {"content": "<p>"}}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings))


def opened(folder: Path, task: str, **config: Any) -> Checkpoint:
    prompt = [PROMPT[0], {**PROMPT[1], "config": {**PROMPT[1]["config"], **config}}]
    write_folder(folder, CONFIG, {"model.x": torch.zeros(1)}, MODES, prompt)
    tokenizer(folder)
    return open_folder(folder, {}, task)


@pytest.mark.parametrize(
    ("config", "ids", "real"),
    [
        ({}, [1, 2, 3, 9, 9, 9], 3),
        ({"padding": "longest"}, [1, 2, 3], 3),
        ({"max_length": 2}, [1, 2], 2),
        ({"padding_side": "left"}, [9, 9, 9, 1, 2, 3], 3),
    ],
)
def test_a_task_becomes_tokens(tmp_path: Path, config: Any, ids: list[int], real: int) -> None:
    prompt = opened(tmp_path, "pick it up", **config).prompt
    assert prompt is not None
    assert prompt.tokens is not None
    tokens, mask = prompt.tokens
    assert (tokens.tolist(), int(mask.sum())) == ([ids], real)
    assert [bool(one) for one in mask[0]] == [one != 9 for one in ids]


def test_without_a_task_the_tokens_are_inputs(tmp_path: Path) -> None:
    prompt = opened(tmp_path, "").prompt
    assert prompt is not None
    assert (prompt.length, prompt.tokens) == (6, None)
    assert TOKENS.startswith("observation.language")
    assert MASK.startswith("observation.language")


def test_a_task_without_its_tokenizer_says_where_to_put_it(tmp_path: Path) -> None:
    named = [PROMPT[0], {**PROMPT[1], "config": {"tokenizer_name": "nobody/nothing"}}]
    write_folder(tmp_path, CONFIG, {"model.x": torch.zeros(1)}, MODES, named)
    with pytest.raises(ModelError, match="needs the tokenizer 'nobody/nothing'"):
        open_folder(tmp_path, {}, "pick")


def adapter(folder: Path, **config: Any) -> None:
    said = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "bias": "none", **config}
    (folder / "adapter_config.json").write_text(json.dumps(said))
    numbers = torch.Generator().manual_seed(1)
    made = {
        "base_model.model.model.q.lora_A.weight": torch.randn(2, 5, generator=numbers),
        "base_model.model.model.q.lora_B.weight": torch.randn(4, 2, generator=numbers),
        "base_model.model.model.head.weight": torch.ones(3),
    }
    save_file(made, folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("python", "said"),
    [("echo", "is no Python"), ("false", "does not run the policy"), ("/none", "cannot be run")],
)
def test_an_original_that_is_no_python_of_checkpoint_s_is_refused(
    tmp_path: Path, python: str, said: str
) -> None:
    with pytest.raises(ModelError, match=f"--original {python}: .*{said}"):
        LerobotProcess(python, tmp_path, "")


def test_an_adapter_is_merged(tmp_path: Path) -> None:
    weights = {"model.q.weight": torch.ones(4, 5), "model.head.weight": torch.zeros(3)}
    write_folder(tmp_path, CONFIG, weights, MODES)
    adapter(tmp_path)
    found = open_folder(tmp_path, {}, "").weights("model.")
    numbers = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 5, generator=numbers), torch.randn(4, 2, generator=numbers)
    torch.testing.assert_close(found["q.weight"], 1 + 3 * (second @ first))
    assert found["head.weight"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type 'IA3' is not merged"),
        ({"use_dora": True}, "use_dora = True is not merged"),
        ({"r": 0}, "are no LoRA"),
    ],
)
def test_another_adapter_is_refused(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    write_folder(tmp_path, CONFIG, {"model.q.weight": torch.ones(4, 5)}, MODES)
    adapter(tmp_path, **config)
    with pytest.raises(ModelError) as refused:
        open_folder(tmp_path, {}, "").weights()
    assert said in str(refused.value)


def test_an_adapter_without_its_base_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, CONFIG, {"model.q.weight": torch.ones(4, 5)}, MODES)
    adapter(tmp_path, base_model_name_or_path="somebody/base")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="the adapter is of 'somebody/base'"):
        open_folder(tmp_path, {}, "").weights()
