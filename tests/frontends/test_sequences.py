"""Sequences of tensors become slices, or are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.parser import parse_model
from support.torch_models import run_program

from vlacut.errors import ModelError
from vlacut.frontends.onnx import onnx_program
from vlacut.frontends.torch import program_from_module
from vlacut.ir.annotation import EXAMPLE

Split = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
SPLITS: dict[str, Split] = {
    "chunk": lambda x: x.chunk(2, -1),
    "uneven": lambda x: x.chunk(3, -1),
    "sizes": lambda x: x.split([3, 1, 4], -1),
    "leading": lambda x: x.split(2, 0),
    "one of them": lambda x: x.split([3, 5], 1)[1:],
    "gated": lambda x: ((lambda a, b: a * torch.relu(b))(*x.chunk(2, -1)),),
}


class Splits(torch.nn.Module):
    def __init__(self, split: Split) -> None:
        super().__init__()
        self.split = split

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.split(x)


@pytest.mark.parametrize("name", SPLITS)
def test_the_pieces_of_a_split_are_slices(name: str) -> None:
    module, x = Splits(SPLITS[name]), torch.randn(4, 8)
    program = program_from_module(module, (x,))
    made = run_program(program, EXAMPLE.get(program))
    for index, piece in enumerate(module(x)):
        np.testing.assert_array_equal(made[f"output_{index}"], piece.numpy())
    operators = {node.op_type for node in program.phases[0].model.graph}
    assert not operators & {"SplitToSequence", "SequenceAt"}


def model_file(folder: Path, body: str) -> Path:
    header = '<ir_version: 10, opset_import: ["" : 20]>'
    text = f"{header} g (float[2, 4] x) => (float[2, 4] y) {{{body}}}"
    onnx.save(parse_model(text), folder / "sequence.onnx")
    return folder / "sequence.onnx"


def test_a_split_in_a_file_is_slices(tmp_path: Path) -> None:
    body = (
        "n = Constant <value_int = 1> () s = SplitToSequence <axis = 0> (x, n) "
        "i = Constant <value_int = 0> () j = Constant <value_int = 1> () "
        "a = SequenceAt (s, i) b = SequenceAt (s, j) y = Concat <axis = 0> (b, a)"
    )
    program = onnx_program(model_file(tmp_path, body))
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(run_program(program, {"x": x})["y"], x[::-1])


@pytest.mark.parametrize(
    "body",
    [
        "s = SplitToSequence <axis = 1> (x) y = ConcatFromSequence <axis = 0> (s)",
        "s = SequenceConstruct (x, x) i = Constant <value_int = 0> () y = SequenceAt (s, i)",
    ],
)
def test_a_sequence_that_is_more_than_a_split_is_refused(body: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Sequence\w* makes a sequence or an optional"):
        onnx_program(model_file(tmp_path, body))
