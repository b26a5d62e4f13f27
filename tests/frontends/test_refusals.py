"""The torch front end: what cannot be traced, or cut, is refused with the reason."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from support.torch_models import Denoiser, denoiser_phases, run_program, seeded
from torch import nn

from vlacut.errors import ModelError
from vlacut.frontends.torch import TorchPhase, program_from_module, program_from_torch
from vlacut.ir.annotation import EXAMPLE


class Branches(nn.Module):
    def forward(self, x):
        return x + 1 if x.sum() > 0 else x - 1


class Drops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(x)


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count.add_(1)
        return x + self.count


class Overwrites(nn.Module):
    def forward(self, x):
        x.mul_(2)
        return x + 1


class Doubles(nn.Module):
    def forward(self, x):
        return torch.view_as_real(x * 2)


class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.fft(x)


class Magnitudes(nn.Module):
    def forward(self, x):
        return torch.view_as_real(torch.fft.fft(x))


class Talks(nn.Module):
    def forward(self, x):
        sys.stderr.write("traced")
        return x + 1


class Fails(nn.Module):
    def forward(self, x):
        return x @ torch.ones(17, 3)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Branches(), "control flow or a shape depends on the values of a tensor"),
        (Counts(), "writes into its buffer count; return the new value"),
        (Overwrites(), "writes into its input x; return the new value"),
        (Fails(), r"cannot be traced: RuntimeError: .*\[2, 4\]"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(
    module: nn.Module, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        program_from_module(module, (torch.ones(2, 4),))
    assert "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


def test_complex_numbers_are_refused_at_the_border_alone() -> None:
    numbers = torch.arange(8.0).reshape(4, 2)
    with pytest.raises(ModelError, match=r"x is torch\.complex64; inputs and outputs must be real"):
        program_from_module(Doubles(), (torch.view_as_complex(numbers),))
    with pytest.raises(ModelError, match=r"is torch\.complex64; inputs and outputs must be real"):
        program_from_module(Spectrum(), (torch.ones(4),))
    program_from_module(Magnitudes(), (torch.ones(4),))


def test_dropout_in_evaluation_is_no_draw() -> None:
    program = program_from_module(Drops().eval(), (torch.ones(2, 4),))
    made = run_program(program, EXAMPLE.get(program))["output_0"]
    np.testing.assert_array_equal(made, np.ones((2, 4), np.float32))


def test_names_that_do_not_fit_are_named() -> None:
    encode, denoise = denoiser_phases(seeded(Denoiser))
    few = TorchPhase("encode", encode.module, encode.inputs, ("context",), "encode")
    with pytest.raises(ModelError, match=r"1 names of outputs \(context\) for 2 tensors"):
        program_from_torch("p", [few], ["image"], ["context"])
    wrong = TorchPhase("encode", encode.module, encode.inputs, encode.outputs, "encodes")
    with pytest.raises(ModelError, match="Denoiser has no method encodes"):
        program_from_torch("p", [wrong], ["image"], ["context"])
    with pytest.raises(ModelError, match="no phase has the input picture"):
        program_from_torch("p", [encode, denoise], ["picture"], ["action"])
    same = TorchPhase("encode", encode.module, {"x": torch.ones(2, 8)}, ("x", "y"), "encode")
    with pytest.raises(ModelError, match="'x' names two of its inputs, outputs and weights"):
        program_from_torch("p", [same], ["x"], ["y"])


def test_what_a_module_says_while_it_is_traced_is_heard(
    capsys: pytest.CaptureFixture[str],
) -> None:
    program_from_module(Talks(), (torch.ones(2, 4),))
    assert "traced" in capsys.readouterr().err
