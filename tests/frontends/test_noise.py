"""What a module draws becomes inputs; a draw that would stay the same for ever is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.torch_models import run_program
from torch import nn
from torch.nn import functional

from vlacut.errors import ModelError
from vlacut.frontends.explaining import failure_of
from vlacut.frontends.torch import TorchPhase, program_from_module, program_from_torch
from vlacut.ir.annotation import EXAMPLE, NOISE, NOTES
from vlacut.ir.original import ORIGINAL
from vlacut.ir.storage import read_program, write_program
from vlacut.tensor.noise import Noise


class Says(nn.Module):
    """A module of one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, x):
        return self._function(x)


def numbers(x):
    drawn = torch.randn(2, 4, generator=torch.Generator().manual_seed(3))
    drawn = drawn + torch.empty_like(x).normal_(1.0, 2.0) * torch.empty(2, 4).uniform_(-1.0, 3.0)
    return x + drawn + torch.randn(2, 4, dtype=torch.float16) + torch.rand_like(x)


def of_tensors(x):
    drawn = torch.normal(x, x.abs()) + torch.distributions.Normal(x, 1.0).sample()
    return drawn + torch.distributions.Uniform(x, x + 1).sample()


def chosen(x):
    coins = torch.empty_like(x).bernoulli_(0.25) + torch.bernoulli(torch.sigmoid(x))
    dropped = functional.dropout(x, 0.25) + torch.dropout(x, 0.5, train=True)
    return coins * dropped * torch.randint(2, 5, (2, 4)) + torch.randint_like(x, 7)


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (
            numbers,
            ["normal(0, 1)", "normal(1, 2)", "uniform(-1, 3)", "normal(0, 1)", "uniform(0, 1)"],
        ),
        (of_tensors, ["normal(0, 1)", "normal(0, 1)", "uniform(0, 1)"]),
        (
            chosen,
            [
                *("bernoulli(0.25)", "uniform(0, 1)", "bernoulli(0.75)", "bernoulli(0.5)"),
                *("integers(2, 5)", "integers(0, 7)"),
            ],
        ),
    ],
)
def test_a_draw_becomes_an_input_with_its_distribution(
    function: Callable[..., Any], kinds: list[str]
) -> None:
    program = program_from_module(Says(function), (torch.linspace(-1, 1, 8).reshape(2, 4),))
    noise = NOISE.get(program)
    assert [str(one) for one in noise] == kinds
    names = [f"noise.{place}" for place in range(len(kinds))]
    assert [one.input for one in noise] == names
    assert [spec.name for spec in program.inputs] == ["x", *names]
    original = ORIGINAL.get(program)().phases["main"]  # the module itself, given the same noise
    for seed in range(2):
        observed = {**EXAMPLE.get(program)}
        for place, (one, spec) in enumerate(zip(noise, program.inputs[1:], strict=True)):
            observed[one.input] = one.draw(spec, seed, 0, place)
        made, meant = run_program(program, observed), original(observed)
        for name, array in meant.items():
            np.testing.assert_allclose(made[name], array, rtol=2e-6, atol=2e-6)


def test_dropout_that_is_active_is_said() -> None:
    program = program_from_module(nn.Dropout(0.5).train(), (torch.ones(2, 4),))
    (draws, dropout) = NOTES.get(program)
    assert draws.startswith("1 draws of random numbers are inputs: bernoulli(0.5)")
    assert "dropout is active, and drawn, in 1 places; call module.eval() before" in dropout


def test_noise_gets_a_name_that_no_input_has() -> None:
    class Takes(nn.Module):
        def forward(self, noise):
            return noise["noise.0"] + torch.randn(3)

    program = program_from_module(Takes(), ({"noise.0": torch.ones(3)},))
    assert [spec.name for spec in program.inputs] == ["noise.0", "drawn_noise.0"]
    assert [one.input for one in NOISE.get(program)] == ["drawn_noise.0"]


class TwoPhases(nn.Module):
    def see(self, x):
        return x + torch.randn(2)

    def act(self, seen):
        return seen * torch.rand(2)


def test_noise_of_phases_is_numbered_through() -> None:
    net = TwoPhases()
    phases = [
        TorchPhase("see", net, {"x": torch.ones(2)}, ("seen",), "see"),
        TorchPhase("act", net, {"seen": torch.ones(2)}, ("action",), "act"),
    ]
    program = program_from_torch("p", phases, ["x"], ["action"])
    assert [spec.name for spec in program.inputs] == ["x", "noise.0", "noise.1"]
    assert [str(one) for one in NOISE.get(program)] == ["normal(0, 1)", "uniform(0, 1)"]
    given = EXAMPLE.get(program)
    seen = given["x"] + given["noise.0"]
    original = ORIGINAL.get(program)()
    np.testing.assert_array_equal(original.phases["see"](given)["seen"], seen)
    np.testing.assert_allclose(run_program(program, given)["action"], seen * given["noise.1"])
    looped = TorchPhase(
        "act", net, {"seen": torch.ones(2)}, ("action",), "act", 3, {"action": "seen"}
    )
    with pytest.raises(ModelError, match="act: draws random numbers in each of its 3 trips"):
        program_from_torch("p", [phases[0], looped], ["x"], ["action"])


def test_noise_is_kept_by_the_cache(tmp_path: Path) -> None:
    program = program_from_module(Says(numbers), (torch.ones(2, 4),))
    write_program(program, tmp_path)
    assert NOISE.get(read_program(tmp_path)) == NOISE.get(program)
    assert NOISE.get(program)[1] == Noise("noise.1", "normal", 1.0, 2.0)


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Linear(4, 4)

    def forward(self, x):
        x = self.see(x)
        return functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5)


class Recurs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(4, 4, num_layers=2, dropout=0.5)

    def forward(self, x):
        return self.cell(x)[0]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Says(lambda x: x + torch.from_numpy(np.random.rand(4))), "draws from numpy.random while"),
        (Says(lambda x: x * random.random()), "draws from Python's random while"),
        (Says(lambda x: x + torch.randperm(4)), "randperm draws random numbers; noise must be"),
        (Says(lambda x: torch.multinomial(x, 1)), "multinomial draws random numbers; noise must"),
        (Says(lambda x: x.clone().exponential_()), "exponential_ draws random numbers; noise must"),
        (Says(lambda x: functional.alpha_dropout(x, 0.5, True)), "dropout is active; call module"),
        (Says(lambda x: functional.rrelu(x, training=True)), "dropout of rrelu is active; call"),
        (Attends(), "dropout of scaled_dot_product_attention is active; call module.eval"),
        (Recurs(), "cell: the dropout of lstm is active; call module.eval"),
    ],
)
def test_a_draw_that_is_not_lifted_is_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        program_from_module(module, (torch.ones(2, 4),))
    assert "\n" not in str(caught.value)


class Scales(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(x)


@pytest.mark.parametrize(
    ("module", "line"), [(Recurs(), "return self.cell(x)[0]"), (Scales(), "return self.norm(x)")]
)
def test_a_refusal_inside_torch_s_modules_has_the_line_that_calls_them(
    module: nn.Module, line: str
) -> None:
    with pytest.raises(ModelError, match=r"call module\.eval") as caught:
        program_from_module(module, (torch.ones(2, 4),))
    file, _, code = failure_of(caught.value).place.split(":")
    assert (file, code.strip()) == (__file__, line)


def test_what_draws_in_training_alone_is_taken() -> None:
    program_from_module(Recurs().eval(), (torch.ones(2, 4),))
    assert NOISE.find(program_from_module(nn.Dropout().eval(), (torch.ones(2, 4),))) is None
