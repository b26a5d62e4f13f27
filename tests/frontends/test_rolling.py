"""Loops of Python that a trace unrolls, rolled to phases with trips: the same to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.torch_models import run_program
from torch import nn

from vlacut.errors import ModelError
from vlacut.frontends.torch import program_from_module
from vlacut.ir.annotation import EXAMPLE, NOISE, NOTES
from vlacut.ir.bindings import doubtful_bindings
from vlacut.ir.original import ORIGINAL
from vlacut.ir.program import Program
from vlacut.ir.rolling import parse_roll, rolled, unrolled_loops, unrolled_observation
from vlacut.split.observations import example_observation

STEPS = 5


class Denoiser(nn.Module):
    """A denoise loop with tables, noise in every trip, and the velocity of the trip before."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.see, self.out = nn.Linear(6, 8), nn.Linear(8, 3)
        self.up, self.down = nn.Linear(17, 32), nn.Linear(32, 8)
        self.register_buffer("sigmas", torch.linspace(1, 0.1, STEPS + 1))

    def velocity(self, x, context, time):
        time = torch.full((1, 1), float(time))
        return self.down(torch.tanh(self.up(torch.cat([x, context, time], dim=1))))

    def forward(self, image):
        context = self.see(image).relu()
        x, before = torch.randn(1, 8) * self.sigmas[0], torch.zeros(1, 8)
        for step in range(STEPS):
            velocity = self.velocity(x, context, step / STEPS)
            x = x + (self.sigmas[step + 1] - self.sigmas[step]) * (1.5 * velocity - 0.5 * before)
            x = x + 0.1 * (step + 1) * torch.randn(1, 8)
            before = velocity
        return self.out(x), x, context


class LastIsOther(Denoiser):
    """No noise in the last trip, as DDPM has it, and what two trips before made."""

    def forward(self, image):
        context = self.see(image).relu()
        x = torch.randn(1, 8)
        history = [x, 2 * x]
        for step in range(STEPS):
            velocity = self.velocity(x, context, step / STEPS)
            x = x - 0.1 * velocity + 0.01 * history[-2]
            history.append(velocity)
            if step < STEPS - 1:
                x = x + 0.1 * torch.randn(1, 8)
        return x


class RowsOfAnInput(Denoiser):
    """What differs between trips is computed before the loop, and neither constant nor noise."""

    def forward(self, image):
        contexts = [(self.see(image) * (step + 1)).relu() for step in range(STEPS)]
        x = image[:, :4].repeat(1, 2)
        for step in range(STEPS):
            x = x - 0.1 * self.velocity(x, contexts[step], 0.5)
        return x


class SharedLayer(nn.Module):
    """A loop without a constant or an input of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Sigmoid())

    def forward(self, x):
        for _ in range(7):
            x = self.layers(x) + x
        return x


def traced(module: nn.Module) -> Program:
    return program_from_module(module.eval(), (torch.linspace(-1, 1, 6).reshape(1, 6),))


@pytest.mark.parametrize(
    ("module", "trips"),
    [
        (Denoiser(), STEPS),
        (LastIsOther(), STEPS - 1),
        (RowsOfAnInput(), STEPS),
        (SharedLayer(), 7),
    ],
)
def test_a_rolled_loop_computes_the_same_bits(module: nn.Module, trips: int) -> None:
    program = traced(module)
    made = rolled(program)
    loop = next(phase for phase in made.phases if phase.trips > 1)
    assert (loop.name, loop.trips) == ("loop", trips)
    assert len(loop.model.graph) < len(program.phases[0].model.graph) / 2
    assert f"are {trips} trips of phase loop" in NOTES.get(made)[-1]
    assert not list(unrolled_loops(made))
    for seed in range(3):
        observed = example_observation(made)
        numbers = np.random.default_rng(seed)
        for name, array in observed.items():
            observed[name] = numbers.standard_normal(array.shape).astype(np.float32)
        one = run_program(program, unrolled_observation(made, observed))
        other = run_program(made, observed)
        assert one.keys() == other.keys()
        for name, array in one.items():
            np.testing.assert_array_equal(other[name], array)
    meant = ORIGINAL.get(made)().step(observed)  # the module itself, given the same noise
    for name in one:
        np.testing.assert_allclose(other[name], meant[name], rtol=1e-5, atol=1e-6)


def test_noise_of_the_trips_is_one_input_with_a_row_for_each() -> None:
    program = traced(Denoiser())
    assert len(NOISE.get(program)) == 1 + STEPS
    made = rolled(program)
    assert [(one.input, str(one)) for one in NOISE.get(made)] == [
        ("noise.0", "normal(0, 1)"),
        ("noise.1", "normal(0, 1)"),
    ]
    shapes = {spec.name: spec.shape for spec in made.inputs}
    assert shapes == {"image": (1, 6), "noise.0": (1, 8), "noise.1": (STEPS, 1, 8)}
    specs = {spec.name: spec for spec in made.inputs}
    for place, one in enumerate(NOISE.get(made)):
        drawn = one.draw(specs[one.input], 0, 0, place)
        np.testing.assert_array_equal(EXAMPLE.get(made)[one.input], drawn)


def test_an_unrolled_loop_is_said_with_what_it_costs() -> None:
    program = traced(SharedLayer())
    (said,) = unrolled_loops(program)
    assert said.startswith("phase main holds 7 equal blocks of 5 operators, a loop that was unrol")
    assert "30 operators more than with --roll auto" in said
    assert not list(doubtful_bindings(rolled(program)))


class Layers(nn.Module):
    """Layers are no trips: each has weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(6))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).tanh() + 0.5 * x
        return x


class AllAreKept(SharedLayer):
    """What every trip makes is read behind the loop, so no trip may be forgotten."""

    def forward(self, x):
        made = []
        for _ in range(4):
            x = self.layers(x) + x
            made.append(x)
        return torch.cat(made)


@pytest.mark.parametrize("module", [Layers(), AllAreKept()])
def test_what_is_no_loop_is_not_rolled(module: nn.Module) -> None:
    program = traced(module)
    assert not list(unrolled_loops(program))
    with pytest.raises(ModelError, match="--roll: no phase holds equal blocks of operators on"):
        rolled(program)


def test_trips_that_are_told_are_those_or_none() -> None:
    program = traced(SharedLayer())
    assert [phase.trips for phase in rolled(program, 3).phases if phase.trips > 1] == [3]
    with pytest.raises(ModelError, match="no phase holds 8 equal blocks"):
        rolled(program, 8)
    assert parse_roll("auto") is None
    assert parse_roll("10") == 10
    for text in ("1", "x", "-3"):
        with pytest.raises(ModelError, match="write auto, or how many trips the loop has"):
            parse_roll(text)
