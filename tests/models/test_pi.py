"""pi0 and pi05 of checkpoints, beside openpi's own code and Pillow's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import pi_numbers as small
from support.phases import one_thread
from support.pi_folders import sizes, weights

from vlacut.errors import ModelError
from vlacut.frontends.filling import fill_module
from vlacut_models.layers.flow import falling_times, summed_times
from vlacut_models.pi.network import Pi05
from vlacut_models.pi.phases import network
from vlacut_models.pi.pictures import PillowResize, resize_centred
from vlacut_models.pi.sizes import sizes as sizes_of
from vlacut_models.pi.sizes import tie

# `tests/support/policies/openpi_reference.py` wrote them, with openpi of 2026-06-16 (15a9616).
THEIRS = Path(__file__).parents[1] / "golden" / "openpi_actions.npz"
BOUND = 1e-6  # of the largest magnitude: another order of the same sums


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_the_network_acts_as_openpi_s_own_does(kind: str) -> None:
    held = weights(kind)
    found = network(kind, sizes(kind), summed_times(10))
    fill_module(Path("file"), kind, found, held)
    seen = {name: torch.from_numpy(one) for name, one in small.observation(kind).items()}
    with torch.no_grad(), one_thread():
        if isinstance(found, Pi05):
            found.settle()
        visual = found.eval().vision(seen["pictures"])
        *caches, step = found.prefix(visual, seen["tokens"], seen["mask"])
        actions = seen["noise"]
        for _ in range(10):
            if isinstance(found, Pi05):
                actions, step = found.advance(actions, step, seen["mask"], *caches)
            else:
                actions, step = found.denoise(actions, step, seen["state"], seen["mask"], *caches)
    with np.load(THEIRS) as theirs:
        wanted = theirs[kind]
    difference = float(np.abs(actions.numpy() - wanted).max())
    assert difference <= BOUND * float(np.abs(wanted).max())


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_the_sizes_are_those_of_the_tensors(kind: str) -> None:
    held = weights(kind)
    assert sizes_of(Path("f"), held, 2, small.PROMPT[kind], small.CHUNK, 10) == sizes(kind)
    head = held.pop("paligemma_with_expert.paligemma.lm_head.weight")
    with pytest.raises(ModelError, match=r"lacks .*lm_head\.weight: is it a checkpoint of pi0"):
        sizes_of(Path("f"), held, 2, 48, 10, 10)
    held["paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"] = head
    tie(held)
    assert sizes_of(Path("f"), held, 2, 48, 10, 10).vocabulary == small.WORDS


def test_weights_of_odd_shapes_are_refused() -> None:
    held = weights("pi0")
    for name, odd in (
        ("action_in_proj.weight", torch.zeros(3)),
        ("paligemma_with_expert.paligemma.lm_head.weight", torch.zeros(())),
        (
            "paligemma_with_expert.paligemma.model.language_model.layers.0.self_attn.q_proj.weight",
            torch.zeros(0, 4),
        ),
    ):
        with pytest.raises(ModelError, match=f"{name} is .*, not of 2 axes"):
            sizes_of(Path("f"), {**held, name: odd}, 2, 48, 10, 10)


def test_times_differ_as_the_two_loops_round_them() -> None:
    assert summed_times(10)[:3].tolist() == [1.0, pytest.approx(0.9), pytest.approx(0.8)]
    assert 0 < float((summed_times(10) - falling_times(10)).abs().max()) < 2e-7


@pytest.mark.parametrize(
    ("rows", "columns"), [(60, 80), (80, 60), (90, 160), (28, 28), (20, 9), (9, 200), (29, 28)]
)
def test_a_picture_is_resized_to_pillow_s_last_bit(rows: int, columns: int) -> None:
    side = 28
    numbers = np.random.default_rng(rows)
    picture = numbers.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    picture[: rows // 2] //= 255  # black and white, which rounding and clipping touch
    picture[: rows // 2] *= 255
    ours = PillowResize(rows, columns, side)(torch.from_numpy(picture))
    np.testing.assert_array_equal(ours[0].permute(1, 2, 0).numpy(), padded(picture, side))


@pytest.mark.slow  # 6 M pixels
@pytest.mark.parametrize("size", [(480, 640), (720, 1280), (1080, 1920), (256, 256)])
def test_a_camera_s_picture_is_resized_to_pillow_s_last_bit(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    ours = PillowResize(*size, 224)(torch.from_numpy(picture))
    np.testing.assert_array_equal(ours[0].permute(1, 2, 0).numpy(), padded(picture, 224))


def test_a_picture_that_would_be_a_line_is_refused() -> None:
    with pytest.raises(ModelError, match="a picture of 3 x 200 is a line in 28 x 28 pixels"):
        PillowResize(3, 200, 28)


def padded(picture: np.ndarray, side: int) -> np.ndarray:
    """`resize_with_pad` of openpi's client, by Pillow."""
    rows, columns = picture.shape[:2]
    ratio = max(columns / side, rows / side)
    height, width = int(rows / ratio), int(columns / ratio)
    scaled = Image.fromarray(picture).resize((width, height), resample=Image.Resampling.BILINEAR)
    whole = Image.new("RGB", (side, side))
    whole.paste(scaled, (int((side - width) / 2), int((side - height) / 2)))
    return np.asarray(whole)


def test_lerobot_s_pictures_have_black_around_them() -> None:
    wide = resize_centred(torch.ones(1, 3, 2, 6), 6)
    assert wide[0, 0].tolist() == [[0] * 6] * 2 + [[1] * 6] * 2 + [[0] * 6] * 2
    same = torch.rand(1, 3, 6, 6)
    assert resize_centred(same, 6) is same
