"""pi0 and pi05 of LeRobot's folders: what is around the network, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.cutting import run_whole
from support.phases import run
from support.pi_folders import CAMERA, JOINTS, STATE, lerobot_folder
from support.policies.lerobot_pi_reference import DELAY, LEFT, MOST_GUIDANCE, observation
from torch import Tensor

from vlacut.control.rtc import GUIDANCE, PREV_CHUNK, WEIGHTS, guidance_of
from vlacut.errors import ModelError
from vlacut.frontends.built import Built
from vlacut.frontends.lerobot.checkpoint import open_folder
from vlacut.frontends.lerobot.program import lerobot_program
from vlacut_models.lerobot.act import act
from vlacut_models.pi.lerobot import pi0, pi05
from vlacut_passes.real_time_chunking import RealTimeChunking
from vlacut_passes.simplify import Simplify

GOLDEN = Path(__file__).parents[1] / "golden"
BUILDERS = {"pi0": pi0, "pi05": pi05}


def built(folder: Path, kind: str, task: str = "pick it", transformers: str = "") -> Built:
    return BUILDERS[kind](open_folder(folder, {}, task, transformers))


def given(made: Built) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for phase in made.phases:
        found = {**phase.inputs, **found}
    return {name: found[name] for name in made.observation}


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_a_policy_reads_all_that_it_is_given(tmp_path: Path, kind: str) -> None:
    made = built(lerobot_folder(tmp_path, kind), kind)
    raw = given(made)
    assert list(raw) == [CAMERA, STATE, "noise"]  # the empty camera is none
    whole = run(made, raw)
    assert whole.shape == (10, JOINTS)
    for name, one in raw.items():
        other = 255 - one if one.dtype == torch.uint8 else one + 0.5
        assert not torch.allclose(run(made, {**raw, name: other}), whole, atol=1e-4), name


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_its_actions_are_those_of_lerobot_s_own_policy(tmp_path: Path, kind: str) -> None:
    """Steps, policy and steps of LeRobot 0.6.1; `policies/lerobot_pi_reference.py` made them."""
    made = built(lerobot_folder(tmp_path, kind), kind, transformers="5.5.0")
    raw = {name: torch.from_numpy(one) for name, one in observation().items()}
    wanted = torch.from_numpy(np.load(GOLDEN / "lerobot_pi_actions.npz")[kind])
    worst = float((run(made, raw) - wanted).abs().max())
    assert worst <= 1e-5 * float(wanted.abs().max())


@pytest.mark.slow  # traces a policy; tests/passes has small loops
def test_a_chunk_continues_another_as_with_lerobot_s_own_chunking(tmp_path: Path) -> None:
    """Of LeRobot 0.6.1's `RTCProcessor` in its pi0, what is left given in the robot's units."""
    program = lerobot_program(lerobot_folder(tmp_path, "pi0"), {}, "pick it", "5.5.0")
    Simplify().run(program)
    RealTimeChunking("guided").run(program)
    wanted = np.load(GOLDEN / "lerobot_pi_actions.npz")
    chunk, weights = np.zeros((10, JOINTS), np.float32), np.zeros(10, np.float32)
    chunk[:LEFT], weights[:DELAY] = wanted["pi0.left"], 1
    weights[DELAY:LEFT] = np.linspace(1, 0, LEFT - DELAY + 2)[1:-1]  # its schedule, LINEAR
    guidance = guidance_of(10, MOST_GUIDANCE).astype(np.float32)
    told = {PREV_CHUNK: chunk, WEIGHTS: weights, GUIDANCE: guidance}
    made = run_whole(program, observation() | told)["action"]
    most = float(np.abs(wanted["pi0.continued"]).max())
    np.testing.assert_allclose(made, wanted["pi0.continued"], atol=1e-5 * most)
    assert np.abs(made - wanted["pi0"]).max() > 0.1 * most  # it is another chunk than without


@pytest.mark.parametrize(("transformers", "numbers"), [("4.57.6", 32), ("5.2.0", 6), ("", 6)])
def test_the_state_is_written_as_its_lerobot_writes_it(
    tmp_path: Path, transformers: str, numbers: int
) -> None:
    made = built(lerobot_folder(tmp_path, "pi05"), "pi05", transformers=transformers)
    [policy] = {phase.module for phase in made.phases}
    assert policy.face.state(given(made)).shape == (1, numbers)
    assert bool(made.notes) == (not transformers)


def test_commands_relative_to_the_state_come_back_absolute(tmp_path: Path) -> None:
    names = [f"joint_{place}" for place in range(JOINTS - 1)] + ["gripper"]
    said = {"enabled": True, "exclude_joints": ["Gripper"], "action_names": names}
    folder = lerobot_folder(
        tmp_path, "pi0", {"registry_name": "relative_actions_processor", "config": said}
    )
    file = folder / "policy_postprocessor.json"
    after = json.loads(file.read_text())
    with pytest.raises(ModelError, match="relative on one side alone"):
        built(folder, "pi0")
    before = (folder / "policy_preprocessor.json").read_text()
    absolute = {"registry_name": "absolute_actions_processor", "config": {"enabled": True}}
    file.write_text(json.dumps({**after, "steps": [*after["steps"], absolute]}))
    odd = before.replace('["Gripper"]', '"Gripper"')
    (folder / "policy_preprocessor.json").write_text(odd)
    with pytest.raises(ModelError, match=r"exclude_joints and action_names .* must be lists"):
        built(folder, "pi0")
    (folder / "policy_preprocessor.json").write_text(before)
    made = built(folder, "pi0")
    [policy] = {phase.module for phase in made.phases}
    state = torch.arange(1.0, JOINTS + 1)
    actions = torch.zeros(1, 10, 32)
    moved = policy.face.commands(actions, {STATE: state}) - policy.face.commands(
        actions, {STATE: torch.zeros(JOINTS)}
    )
    torch.testing.assert_close(moved[0], torch.tensor([1.0, 2, 3, 4, 5, 0]))
    with pytest.raises(ModelError, match="are not compiled for pi0"):
        act(open_folder(folder, {}, "pick it"))


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (4000, "a state of 4000 numbers does not fit in a prompt of"),
        (1 << 40, "max_state_dim is 1099511627776, and must be from 1 to"),
    ],
)
def test_a_state_that_no_prompt_holds_is_refused(tmp_path: Path, numbers: int, said: str) -> None:
    file = lerobot_folder(tmp_path, "pi05") / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "max_state_dim": numbers}))
    with pytest.raises(ModelError, match=said):
        open_folder(tmp_path, {}, "pick it", "4.57.6")


def test_a_state_that_is_normalised_after_it_was_written_is_refused(tmp_path: Path) -> None:
    file = lerobot_folder(tmp_path, "pi05") / "policy_preprocessor.json"
    said = json.loads(file.read_text())
    [place] = [at for at, one in enumerate(said["steps"]) if "state_file" in one]
    said["steps"].append(said["steps"].pop(place))
    file.write_text(json.dumps(said))
    with pytest.raises(ModelError, match="is normalised behind the step that writes it as words"):
        open_folder(tmp_path, {}, "pick it")


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "a memory": ({"use_visual_memory": True}, "use_visual_memory = True is not compiled"),
    "no square": ({"image_resolution": [224, 256]}, "is no square"),
    "a square of words": ({"image_resolution": ["a", "a"]}, "is no square"),
    "no step": ({"num_inference_steps": 0}, "num_inference_steps is 0, and must be from 1 to"),
    "a chunk beyond all": ({"chunk_size": 1 << 40}, "chunk_size is 1099511627776, and must be"),
    "another size": ({"image_resolution": [112, 112]}, "reads pictures of 224 pixels, not of 112"),
    "another policy": ({"type": "pi0"}, "the steps of its prompt are not those of pi0"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_setting_that_is_not_compiled_is_refused(tmp_path: Path, case: str) -> None:
    changed, said = CHANGES[case]
    file = lerobot_folder(tmp_path, "pi05") / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
    with pytest.raises(ModelError) as refused:
        lerobot_program(tmp_path, task="pick it")
    assert said in str(refused.value)
