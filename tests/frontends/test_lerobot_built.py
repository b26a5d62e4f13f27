"""Policies that are built from a LeRobot checkpoint alone, beside torch's own layers and the zoo's.

`test_lerobot_policies.py` compares them with LeRobot itself, where that is installed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.lerobot_folders import ACT as SETTINGS
from support.lerobot_folders import CAMERA, CHUNK, JOINTS, STATE, features, write_folder
from support.lerobot_folders import random_weights as numbers
from torch import nn

from vlacut.errors import ModelError
from vlacut.frontends.lerobot.checkpoint import open_folder
from vlacut.frontends.lerobot.config import Config, Feature
from vlacut_models.layers.flow import time_table
from vlacut_models.lerobot.act import ACT, Layer, act
from vlacut_models.lerobot.resnet import FrozenNorm
from vlacut_models.lerobot.smolvla import times
from vlacut_models.lerobot.smolvla_pictures import place, resize_with_pad
from vlacut_models.lerobot.smolvla_sizes import Vlm, sizes
from vlacut_models.presets import on_shapes
from vlacut_models.smolvla import PRESETS, SmolVLAModel

TINY = PRESETS["tiny"]
MODES = {"VISUAL": "MEAN_STD", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
PLACES = "vlm_with_expert.vlm.model.vision_model.embeddings.position_embedding.weight"


def config(**settings: object) -> Config:
    inputs = {STATE: Feature("STATE", (JOINTS,)), CAMERA: Feature("VISUAL", (3, 48, 64))}
    outputs = {"action": Feature("ACTION", (JOINTS,))}
    return Config(Path("folder"), "act", inputs, outputs, {**SETTINGS, **settings})


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("decodes", [False, True])
def test_a_layer_without_places_is_torch_s_own(first: bool, decodes: bool) -> None:
    kind = nn.TransformerDecoderLayer if decodes else nn.TransformerEncoderLayer
    theirs = kind(32, 4, 48, 0.0, norm_first=first).eval()
    theirs.load_state_dict(numbers(theirs, ""))
    ours = Layer(config(pre_norm=first), decodes).eval()
    ours.load_state_dict(theirs.state_dict())
    drawn = torch.Generator().manual_seed(2)
    x, seen = (torch.randn(count, 1, 32, generator=drawn) for count in (5, 7))
    with torch.no_grad():
        wanted = theirs(x, seen) if decodes else theirs(x)
        torch.testing.assert_close(ours(x, torch.zeros_like(x), seen, seen), wanted)


def test_a_frozen_norm_is_a_batch_norm_that_does_not_learn() -> None:
    theirs, ours = nn.BatchNorm2d(6).eval(), FrozenNorm(6)
    weights = numbers(theirs, "")
    theirs.load_state_dict(weights)
    ours.load_state_dict(weights, strict=False)
    x = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(ours(x), theirs(x))


def test_act_is_built_of_its_folder_and_reads_all_of_it(tmp_path: Path) -> None:
    described = {**SETTINGS, **features()}
    weights = numbers(on_shapes(lambda: ACT(config()), torch.float32))
    checkpoint = open_folder(write_folder(tmp_path, described, weights, MODES), {}, "")
    built = act(checkpoint)
    [phase] = built.phases
    given = dict(phase.inputs)
    assert list(given) == list(built.observation) == [STATE, CAMERA]
    whole = phase.module(*given.values())
    assert whole.shape == (CHUNK, JOINTS)
    scale = checkpoint.after.scales["action"]
    normalised = phase.module.model(checkpoint.ahead(given))[0]
    mean, deviation = torch.from_numpy(scale.first), torch.from_numpy(scale.second)
    torch.testing.assert_close(whole, normalised * deviation + mean)
    for name, other in ((STATE, given[STATE] + 1), (CAMERA, 255 - given[CAMERA])):
        changed = phase.module(*{**given, name: other}.values())
        assert not torch.allclose(changed, whole, atol=1e-3), name


def test_the_sizes_of_a_smolvla_are_those_of_its_tensors() -> None:
    weights = on_shapes(lambda: SmolVLAModel(TINY), torch.float32).state_dict()
    said = config(chunk_size=TINY.chunk, num_steps=TINY.steps)
    vlm = Vlm(TINY.head_width, TINY.siglip.heads)
    assert sizes(said, vlm, weights, TINY.image, TINY.cameras, TINY.prompt) == TINY
    with pytest.raises(ModelError, match="pictures of 60 pixels do not go together"):
        sizes(said, vlm, weights, 60, TINY.cameras, TINY.prompt)


def test_times_are_those_of_the_zoo_but_for_their_rounding() -> None:
    torch.testing.assert_close(times(10, 72), time_table(10, 72), atol=2e-4, rtol=0)


@pytest.mark.parametrize(("transformers", "before"), [("", 0), ("4.57.1", 1), ("5.0.0", 0)])
def test_a_patch_has_the_place_that_transformers_gives_it(transformers: str, before: int) -> None:
    side = TINY.image // TINY.patch
    weights = {PLACES: torch.arange(side**2)[:, None].float()}
    place(weights, TINY, transformers)
    line = (torch.arange(side) - before).clamp(min=0)
    assert weights[PLACES][:, 0].tolist() == (line[:, None] * side + line).flatten().tolist()


def test_a_file_without_places_is_left_to_the_list_of_what_it_lacks() -> None:
    weights: dict[str, torch.Tensor] = {}
    place(weights, TINY, "4.57.1")
    assert not weights


def test_a_picture_is_padded_at_its_left_and_top() -> None:
    wide = resize_with_pad(torch.ones(1, 3, 2, 4), 4, 4)
    assert wide[0, 0].tolist() == [[0] * 4, [0] * 4, [1] * 4, [1] * 4]
    high = resize_with_pad(torch.ones(1, 3, 4, 2), 4, 4)
    assert high[0, 0].tolist() == [[0, 0, 1, 1]] * 4
