"""What a trace takes from the example: which inputs it fixes, and what it leaves free."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from support.commands import Vlacut
from support.families import FAMILIES
from support.torch_models import run_program
from torch import nn

from vlacut.errors import ModelError, ObservationError
from vlacut.frontends.torch import TorchPhase, program_from_module, program_from_torch
from vlacut.ir.annotation import EXAMPLE, FIXED, NOTES
from vlacut.ir.storage import read_program, write_program


class Grid(nn.Module):
    """Rows and columns that an input says; and a mask that chooses rows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, grid: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        rows, columns = grid.tolist()
        order = torch.arange(rows).repeat_interleave(torch.tensor([columns] * rows))
        moved = self.inner(x) + order[:, None]
        return moved[kind == 1].reshape(-1, 4) * len(order)


GIVEN = {
    "x": torch.linspace(-1, 1, 24).reshape(6, 4),
    "grid": torch.tensor([2, 3]),
    "kind": torch.tensor([1, 0, 1, 0, 1, 0]),
}


def test_only_what_python_asks_for_is_fixed() -> None:
    module = Grid().eval()
    program = program_from_module(module, (), GIVEN, name="grid")
    assert list(FIXED.get(program)) == ["grid"]
    assert "input grid is fixed to the example's value" in NOTES.get(program)[0]
    for kind in ([1, 0, 1, 0, 1, 0], [0, 0, 1, 1, 1, 0]):
        given = {**GIVEN, "kind": torch.tensor(kind), "x": torch.randn(6, 4)}
        made = run_program(program, {name: item.numpy() for name, item in given.items()})
        with torch.no_grad():
            expected = module(**given)
        np.testing.assert_allclose(made["output_0"], expected, rtol=1e-5, atol=1e-5)


USER = """
import sys
sys.path.insert(0, {folder!r})
from test_known import GIVEN, Grid

def policy():
    return Grid().eval(), (), GIVEN
"""


def test_another_value_is_an_observation_error(vlacut: Vlacut, tmp_path: Path) -> None:
    import vlacut as library

    file, out = tmp_path / "user.py", tmp_path / "out.vlacut"
    file.write_text(USER.format(folder=str(Path(__file__).parent)))
    asked = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "10MB/s,20ms", "--json")
    status, said, _ = vlacut("compile", f"{file}:policy", *asked, "--no-cache", "-o", out)
    assert status == 0
    assert any("grid is fixed" in line for line in json.loads(said)["notes"])
    assert vlacut("verify", out)[0] == 0
    observation = {name: item.numpy() for name, item in GIVEN.items()}
    with library.connect(out) as policy:
        policy.step(observation)
        with pytest.raises(
            ObservationError, match=r"grid: the bundle was compiled for \[2, 3\] alo"
        ):
            policy.step({**observation, "grid": np.array([3, 2])})


def test_what_is_fixed_is_stored(tmp_path: Path) -> None:
    program = program_from_module(Grid().eval(), (), GIVEN, name="grid")
    write_program(program, tmp_path)
    found = read_program(tmp_path)
    assert FIXED.get(found)["grid"].tolist() == [2, 3]
    assert NOTES.get(found) == NOTES.get(program)


class Interpolates(nn.Module):
    """By numpy, as the schedulers of diffusers do."""

    def forward(self, x: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        return x * float(np.interp(0.25, [0.0, 1.0], ends.numpy()))


def test_numpy_asks_as_python_does() -> None:
    x, ends = torch.linspace(-1, 1, 4)[None], torch.tensor([2, 4])
    program = program_from_module(Interpolates(), (x, ends), name="numpy")
    assert list(FIXED.get(program)) == ["ends"]
    made = run_program(program, {"x": x.numpy(), "ends": ends.numpy()})
    np.testing.assert_allclose(made["output_0"], 2.5 * x, rtol=1e-6)


def test_numpy_of_a_state_is_refused() -> None:
    """No graph would be right for another state."""
    with pytest.raises(ModelError, match="cannot be traced"):
        program_from_module(Interpolates(), (torch.ones(1, 4), torch.tensor([0.5, 1.5])))


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1


class Repeats(nn.Module):
    def forward(self, x: torch.Tensor, count: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * int(count), count + 1


def test_numbers_are_never_fixed() -> None:
    with pytest.raises(ModelError, match="depends on the values of a tensor"):
        program_from_module(Branches(), (torch.ones(3),))


def test_what_a_loop_carries_is_never_fixed() -> None:
    inputs = {"x": torch.ones(2), "count": torch.ones(1, dtype=torch.int64)}
    carried = {"y": "x", "next": "count"}
    phase = TorchPhase("loop", Repeats(), inputs, ("y", "next"), trips=3, carried=carried)
    with pytest.raises(ModelError, match="depends on the values of a tensor"):
        program_from_torch("p", [phase], ["x", "count"], ["y"])


def test_caches_have_names_and_the_module_stays_as_it_was() -> None:
    module, given = FAMILIES["llama_with_cache"]()
    before = copy.deepcopy(given["past_key_values"])
    settings = module.config.to_dict()
    program = program_from_module(module, (), given)
    names = [f"past.{layer}.{what}" for layer in range(2) for what in ("key", "value")]
    assert [spec.name for spec in program.inputs] == ["input_ids", *names]
    assert [spec.name for spec in program.outputs] == ["logits", *(f"{n}_out" for n in names)]
    assert program.outputs[1].shape == (1, 2, 6, 8)
    assert isinstance(given["past_key_values"], transformers.DynamicCache)
    for layer, known in zip(given["past_key_values"].layers, before.layers, strict=True):
        assert torch.equal(layer.keys, known.keys)
    assert module.config.to_dict() == settings
    prefill = program_from_module(
        *FAMILIES["llama_prefill"]()[:1],
        (),
        {"input_ids": torch.ones(1, 5, dtype=torch.int64), "use_cache": True},
    )
    assert [spec.name for spec in prefill.outputs] == ["logits", *names]


def test_a_cache_that_nobody_asked_for_is_no_output() -> None:
    module, given = FAMILIES["mixtral"]()
    program = program_from_module(module.eval(), (), given)
    assert [spec.name for spec in program.outputs] == ["logits"]
    assert [note.partition(":")[0] for note in NOTES.get(program)] == ["use_cache=False", "experts"]
    with torch.no_grad():
        expected = module(**given, use_cache=False).logits
    made = run_program(program, EXAMPLE.get(program))["logits"]
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-6)
