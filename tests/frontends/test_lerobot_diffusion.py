"""Diffusion Policy, built from a LeRobot checkpoint alone: its parts beside their formulas.

`test_lerobot_policies.py` compares it with LeRobot itself, where that is installed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.lerobot_folders import CAMERA, JOINTS, STATE, features, random_weights, write_folder
from torch.nn import functional as nnf

from vlacut.errors import ModelError
from vlacut.frontends.lerobot.checkpoint import open_folder
from vlacut.frontends.lerobot.config import Config, Feature
from vlacut_models.lerobot.act import ENVIRONMENT
from vlacut_models.lerobot.denoising import Denoising
from vlacut_models.lerobot.diffusion import Network, diffusion
from vlacut_models.lerobot.keypoints import Encoder, Pool, Resized
from vlacut_models.presets import on_shapes

SETTINGS = {
    "type": "diffusion",
    "n_obs_steps": 2,
    "horizon": 8,
    "n_action_steps": 4,
    "crop_shape": [32, 40],
    "down_dims": [8, 16],
    "n_groups": 4,
    "diffusion_step_embed_dim": 8,
    "spatial_softmax_num_keypoints": 4,
    "num_inference_steps": 3,
}
MODES = {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"}


def config(**settings: object) -> Config:
    inputs = {STATE: Feature("STATE", (JOINTS,)), CAMERA: Feature("VISUAL", (3, 48, 64))}
    outputs = {"action": Feature("ACTION", (JOINTS,))}
    return Config(Path("folder"), "diffusion", inputs, outputs, {**SETTINGS, **settings})


def weights(said: Config) -> dict[str, torch.Tensor]:
    """By LeRobot's names, who has the parts of a ResNet by their places."""
    vectors = [name for name in said.inputs if name not in said.cameras]
    network = on_shapes(lambda: Network(said, (48, 64), vectors), torch.float32)
    places = {
        "conv1": "0",
        "bn1": "1",
        **{f"layer{place}": str(place + 3) for place in range(1, 5)},
    }
    found = {}
    for name, one in random_weights(network, "diffusion.").items():
        head, has, tail = name.partition("backbone.")
        part, _, rest = tail.partition(".")
        found[f"{head}{has}{places[part]}.{rest}" if has else name] = one
    return found


def reads_all_of_it(folder: Path, said: Config) -> None:
    """Built of its folder: phases that fit together, and every moment of every input counts."""
    shapes = {name: {"type": one.kind, "shape": one.shape} for name, one in said.inputs.items()}
    described = {**said.settings, **features(), "input_features": shapes}
    built = diffusion(open_folder(write_folder(folder, described, weights(said), MODES), {}, ""))
    see, denoise, finish = built.phases
    assert list(built.observation) == [*said.inputs, "noise", "noise.steps"]
    assert [one.input for one in built.noise] == ["noise", "noise.steps"]
    assert denoise.trips == 3
    given, history = dict(see.inputs), said.settings["n_obs_steps"]
    seen, first = see.module.see(*given.values())
    noise, drawn = denoise.inputs["noise"], denoise.inputs["noise.steps"]
    commands, second = denoise.module.denoise(noise, first, seen, drawn)
    assert (int(first), int(second), commands.shape) == (0, 1, (1, 8, JOINTS))
    assert finish.module.finish(commands).shape == (4, JOINTS)
    assert not torch.allclose(denoise.module.denoise(noise, first, seen + 1, drawn)[0], commands)
    for name, one in given.items():
        assert one.ndim == (3 if name in said.cameras else 1) + (history > 1)
        for at in range(history):
            moved = one.clone()
            part = moved[at] if history > 1 else moved
            part.copy_(255 - part if name in said.cameras else part + 1)
            other = see.module.see(*{**given, name: moved}.values())[0]
            assert not torch.allclose(other, seen), (name, at)


@pytest.mark.parametrize("history", [1, 2])
def test_it_is_built_of_its_folder_and_reads_all_of_it(tmp_path: Path, history: int) -> None:
    said = config(n_obs_steps=history)
    inputs = {STATE: said.inputs[STATE], ENVIRONMENT: Feature("ENV", (3,))}
    reads_all_of_it(tmp_path, replace(said, inputs=inputs))


@pytest.mark.slow  # 11 million weights of a ResNet, drawn and written
@pytest.mark.parametrize("settings", [{}, {"use_group_norm": False}])
def test_it_sees_with_all_of_its_cameras(tmp_path: Path, settings: dict[str, object]) -> None:
    other = "observation.images.wrist"
    apart = {"use_separate_rgb_encoder_per_camera": bool(settings)}
    said = config(**settings, **apart)
    inputs = {**said.inputs, other: said.inputs[CAMERA]}
    reads_all_of_it(tmp_path, replace(said, inputs=inputs))


@pytest.mark.parametrize("answers", ["epsilon", "sample"])
@pytest.mark.parametrize("kind", ["DDIM", "DDPM"])
def test_whoever_knows_the_noise_comes_to_what_is_clean(kind: str, answers: str) -> None:
    """DDIM keeps its noise in each step on the way down, and DDPM goes to its posterior mean."""
    steps = Denoising(config(noise_scheduler_type=kind, prediction_type=answers))
    assert steps.timesteps == [66, 33, 0]
    numbers = torch.Generator().manual_seed(2)
    clean, noise = (torch.rand(1, 8, 6, generator=numbers) * 2 - 1 for _ in range(2))
    product = (steps.root.double() ** 2).tolist()
    x = clean * steps.root[0] + noise * steps.rest[0]
    for step, now in enumerate(product):
        left = (x - clean * steps.root[step]) / steps.rest[step]
        after = (*product, 1.0)[step + 1]
        wanted = after**0.5 * clean + (1 - after) ** 0.5 * left
        if kind == "DDPM":
            beta = 1 - now / after
            wanted = (after**0.5 * beta * clean + (1 - beta) ** 0.5 * (1 - after) * x) / (1 - now)
        still = torch.zeros(3, 8, 6) if kind == "DDPM" else None
        answer = left if answers == "epsilon" else clean
        x = steps(x, answer, torch.tensor([step]), still)
        torch.testing.assert_close(x, wanted.float(), atol=2e-5, rtol=0)
    torch.testing.assert_close(x, clean, atol=2e-5, rtol=0)


def test_the_last_step_draws_nothing_and_the_clip_holds() -> None:
    steps = Denoising(config())
    ones = torch.ones(3, 8, 6)
    apart = [
        steps(ones[:1], ones[:1], torch.tensor([step]), ones)
        - steps(ones[:1], ones[:1], torch.tensor([step]), 0 * ones)
        for step in range(3)
    ]
    assert [bool((one > 0).all()) for one in apart] == [True, True, False]
    far = steps(ones[:1] * 9, ones[:1] * 0, torch.tensor([2]), ones)
    torch.testing.assert_close(far, ones[:1], atol=1e-3, rtol=0)


def test_pictures_are_resized_as_torch_does_it() -> None:
    pictures = torch.rand(2, 3, 31, 47, generator=torch.Generator().manual_seed(2))
    for sides in ((13, 20), (40, 30)):
        how = {"mode": "bilinear", "align_corners": False, "antialias": True}
        wanted = nnf.interpolate(pictures, size=sides, **how)
        torch.testing.assert_close(Resized((31, 47), sides)(pictures), wanted, atol=1e-6, rtol=0)


def test_a_feature_that_stands_out_is_where_the_grid_has_it() -> None:
    pool = Pool(1, 1, 3, 4)
    pool.pos_grid = torch.stack([torch.arange(12.0) % 4, torch.arange(12.0) // 4], dim=1)
    torch.nn.init.ones_(pool.nets.weight)
    maps = torch.zeros(1, 1, 3, 4)
    maps[0, 0, 2, 1] = 100.0
    torch.testing.assert_close(pool(maps), torch.tensor([[1.0, 2.0]]))


WRONG = {
    "do not go together": {"horizon": 6},
    "no noise_scheduler_type 'LCM'": {"noise_scheduler_type": "LCM"},
    "no beta_schedule 'sigmoid'": {"beta_schedule": "sigmoid"},
    "200 steps are more than the 100": {"num_inference_steps": 200},
    "crop_shape .64, 64. is larger": {"crop_shape": [64, 64]},
    "resize_shape is .4, 0., no two sides": {"resize_shape": [4, 0]},
    "no vision backbone 'vgg'": {"vision_backbone": "vgg"},
}


@pytest.mark.parametrize("said", WRONG)
def test_settings_that_are_not_known_are_refused_by_name(said: str) -> None:
    wrong = config(**WRONG[said])

    def build() -> None:
        on_shapes(lambda: Network(wrong, (48, 64), [STATE]), torch.float32)
        Denoising(wrong)

    with pytest.raises(ModelError, match=said):
        build()


def test_a_ratio_of_the_resized_is_cropped() -> None:
    said = config(resize_shape=[40, 50], crop_ratio=0.8, crop_shape=None)
    encoder = on_shapes(lambda: Encoder(said, (48, 64)), torch.float32)
    assert (encoder._crop, encoder._corner) == ([32, 40], [4, 5])
