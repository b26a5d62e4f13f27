"""pi0 and SmolVLA: exported phases against a loop over a time in floats, and full sizes by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from support.cutting import run_whole
from support.slow import quick
from support.zoo import program

from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.bindings import doubtful_bindings
from vlacut.ir.program import Program
from vlacut_models import pi0, smolvla
from vlacut_models.presets import Examples

Arrays = Mapping[str, np.ndarray]

MAKERS: dict[str, Any] = {"pi0": pi0.pi0, "smolvla": smolvla.smolvla}
STEPS = 10


@cache
def tiny(name: str) -> Program:
    return program(name)


@pytest.mark.parametrize("name", quick(MAKERS, "smolvla"))
def test_every_binding_is_meant_so(name: str) -> None:
    assert not list(doubtful_bindings(tiny(name)))


def policy(name: str, preset: str) -> Any:
    """The policy in torch, with the weights that the preset's program has."""
    if name == "pi0":
        return Examples(preset).module(lambda: pi0.Pi0(pi0.PRESETS[preset]))
    return Examples(preset).module(lambda: smolvla.SmolVLA(smolvla.PRESETS[preset]))


def sinusoids(time: float, width: int) -> torch.Tensor:
    """Sines, then cosines, of a time at periods from 0.004 to 4, geometric: [1, width]."""
    count = width // 2
    angles = [
        2 * math.pi * time / (0.004 * 1000 ** (index / (count - 1))) for index in range(count)
    ]
    return torch.tensor([[*map(math.sin, angles), *map(math.cos, angles)]])


def eager(name: str, observed: Arrays) -> np.ndarray:
    """A control step in torch; the time goes from 1 to 0 in steps of -1/10, without a table."""
    given = {item: torch.from_numpy(array) for item, array in observed.items()}
    made, mask = policy(name, "tiny"), given["input_mask"]
    flow = made if name == "pi0" else made.model
    first, time, actions = torch.zeros(1, dtype=torch.int64), 1.0, given["noise"]
    with torch.no_grad():
        seen = made.vision(given["pixel_values"])
        own = (given["state"],) if name == "smolvla" else ()
        *caches, _ = made.prefix(seen, given["input_ids"], mask, *own)
        rest = (given["state"], mask) if name == "pi0" else (mask,)
        for _ in range(STEPS):
            flow.times = sinusoids(time, flow.config.expert_width)
            actions, _ = made.denoise(actions, first, *rest, *caches)
            time -= 1 / STEPS
    return actions.numpy()


@pytest.mark.parametrize("name", quick(MAKERS, "smolvla"))
def test_phases_compute_what_a_loop_over_time_does(name: str) -> None:
    observed = EXAMPLE.get(tiny(name))
    made = run_whole(tiny(name), observed)["action"]
    np.testing.assert_allclose(made, eager(name, observed), rtol=0, atol=1e-4)
    assert np.abs(made - observed["noise"]).max() > 0.1
    loop = tiny(name).phases[-1]
    assert (loop.trips, dict(loop.carried)) == (STEPS, {"action": "noise", "next.step": "step"})


@pytest.mark.parametrize("name", quick(MAKERS, "smolvla"))
@pytest.mark.parametrize("item", ["pixel_values", "noise", "state"])
def test_another_observation_gives_another_action(name: str, item: str) -> None:
    observed = EXAMPLE.get(tiny(name))
    other = {**observed, item: np.flip(observed[item], axis=-1).copy()}
    change = run_whole(tiny(name), other)["action"] - run_whole(tiny(name), observed)["action"]
    assert np.abs(change).max() > 3e-3


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def siglip(side: int, patches: int, width: int, hidden: int, layers: int) -> int:
    """A convolution of patches, positions, layers with biases everywhere, and the last norm."""
    layer = 4 * linear(width, width) + linear(width, hidden) + linear(hidden, width) + 4 * width
    return linear(3 * side**2, width) + patches * width + layers * layer + 2 * width


def decoder(width: int, queries: int, keys: int, hidden: int, layers: int) -> int:
    """Queries and output, keys and values, three matrices of the MLP, two norms; the last norm."""
    layer = 2 * width * queries + 2 * width * keys + 3 * width * hidden + 2 * width
    return layers * layer + width


def flow(width: int) -> int:
    """Actions of 32 numbers in and out, and the MLP that joins them with the time."""
    return linear(32, width) + linear(width, 32) + linear(2 * width, width) + linear(width, width)


def pi0_parameters() -> int:
    vision = siglip(14, 256, 1152, 4304, 27) + linear(1152, 2048)
    gemma = decoder(2048, 8 * 256, 256, 16384, 18) + 257_152 * 2048
    expert = decoder(1024, 8 * 256, 256, 4096, 18) + 257_152 * 1024  # with a head nothing reads
    return vision + gemma + expert + linear(32, 1024) + flow(1024)


def smolvla_parameters() -> int:
    vision = siglip(16, 1024, 768, 3072, 12) + 768 * 4**2 * 960
    words = 2 * 49_280 * 960  # embedding, and a head that nothing reads
    text = decoder(960, 15 * 64, 5 * 64, 2560, 16)
    expert = decoder(720, 15 * 64, 5 * 64, 2048, 16)
    expert += 8 * 2 * (320 * 320 - 720 * 320)  # odd layers read the VLM's keys and values
    return vision + words + text + expert + linear(32, 960) + flow(720)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "by_hand", "billions", "least"),
    [("pi0", pi0_parameters(), 3.5, 3.1), ("smolvla", smolvla_parameters(), 0.45, 0.38)],
)
def test_full_models_trace_on_shapes_and_have_the_sizes_by_hand(
    name: str, by_hand: int, billions: float, least: float
) -> None:
    held = dict(policy(name, "full").named_parameters())
    assert sum(tensor.numel() for tensor in held.values()) == by_hand
    assert by_hand == pytest.approx(billions * 1e9, rel=0.01)
    made = MAKERS[name]("full")
    read = {
        item: tuple(int(str(size)) for size in value.shape)
        for phase in made.phases
        for item, value in phase.model.graph.initializers.items()
        if value.const_value is None  # no weights: a shape alone
    }
    assert read == {item: tuple(held[item].shape) for item in read}
    assert least * 1e9 < sum(map(math.prod, read.values())) < by_hand
    assert [phase.trips for phase in made.phases] == [1, 1, STEPS]
