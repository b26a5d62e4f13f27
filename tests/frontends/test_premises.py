"""What a trace takes for granted of an observation, and that another observation is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.families import FAMILIES
from support.slow import quick
from support.torch_models import run_program
from torch import Tensor, nn

import vlacut
from vlacut.errors import ObservationError
from vlacut.frontends.torch import program_from_module
from vlacut.ir.annotation import EXAMPLE, FIXED, PREMISES
from vlacut.ir.program import Program
from vlacut.ir.storage import read_program, write_program
from vlacut.runtime.edge.observed import check_observation
from vlacut.tensor import TensorSpec
from vlacut.tensor.premise import Operation, Premise

IDS = torch.tensor([7, 7, 3, 1, 2, 0])
ROWS = torch.linspace(-1, 1, 8).reshape(2, 4)


class Chooses(nn.Module):
    """A mask of tokens, made one way or another, chooses rows."""

    def __init__(self, mask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.table, self.mask = nn.Embedding(9, 4), mask

    def forward(self, ids: Tensor, rows: Tensor) -> Tensor:
        mask, found = self.mask(ids), self.table(ids)
        placed = found.masked_scatter(mask[:, None].expand_as(found), rows)
        return placed + placed[mask].sum()


def written(ids: Tensor) -> Tensor:
    mask = ids == 7
    mask[2:4] = False
    return mask


MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "equal": lambda ids: ids == 7,
    "bounds": lambda ids: (ids >= 7) & ~(ids > 8),
    "views": lambda ids: (ids.reshape(2, 3) == 7).to(torch.int64).flatten().bool(),
    "moved": lambda ids: (ids[None].flip(1).flip(1) != 7).logical_not()[0],
    "either": lambda ids: torch.eq(ids, 7) | torch.eq(ids, torch.tensor(8)),
    "written": written,
}


def traced(mask: Callable[[Tensor], Tensor]) -> tuple[nn.Module, Program]:
    torch.manual_seed(0)
    module = Chooses(mask).eval()
    return module, program_from_module(module, (), {"ids": IDS, "rows": ROWS})


def checked(program: Program, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    specs = {spec.name: spec for spec in program.inputs}
    fixed = {name: tuple(array.flat) for name, array in (FIXED.find(program) or {}).items()}
    return check_observation(specs, observation, fixed, premises=PREMISES.find(program) or ())


@pytest.mark.parametrize("name", MASKS)
def test_places_may_move_and_their_number_may_not(name: str) -> None:
    module, program = traced(MASKS[name])
    checked(program, EXAMPLE.get(program))
    for tokens in ([7, 1, 2, 3, 7, 4], [0, 7, 1, 2, 3, 7], [7, 7, 1, 1, 1, 1]):
        observation = {"ids": np.array(tokens), "rows": ROWS.numpy()}
        try:
            checked(program, observation)
        except ObservationError:
            assert name == "written"  # what was written there is not followed, so it stays there
            continue
        with torch.no_grad():
            expected = module(torch.tensor(tokens), ROWS)
        made = run_program(program, observation)["output_0"]
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)
    for tokens in ([7, 1, 2, 3, 4, 5], [7, 7, 7, 1, 2, 3], [0, 0, 0, 0, 0, 0]):
        with pytest.raises(ObservationError, match="ids: "):
            checked(program, {"ids": np.array(tokens), "rows": ROWS.numpy()})


def test_a_mask_that_another_input_changes_fixes_both() -> None:
    class Changed(nn.Module):
        def forward(self, ids: Tensor, other: Tensor, x: Tensor) -> Tensor:
            mask = ids == 7
            mask[other == 1] = False
            return x[mask].sum(0)

    given = {"ids": IDS, "other": torch.tensor([1, 0, 0, 0, 0, 0]), "x": torch.ones(6, 2)}
    program = program_from_module(Changed(), (), given)
    assert sorted(FIXED.get(program)) == ["ids", "other"]
    checked(program, EXAMPLE.get(program))


def test_a_mask_that_no_premise_can_say_fixes_its_input() -> None:
    _, program = traced(lambda ids: (ids.cumsum(0) * 3 + ids) % 10 == 8)
    assert list(FIXED.get(program)) == ["ids"]


@pytest.mark.parametrize("name", quick(["llava", "paligemma", "smolvlm"], "smolvlm"))
def test_image_tokens_may_stand_elsewhere(name: str) -> None:
    torch.manual_seed(0)
    module, given = FAMILIES[name]()
    module.eval()
    program = program_from_module(module, (), given, name=name)
    ids = given["input_ids"].numpy()
    moved = np.concatenate([ids[:, -1:], ids[:, :-1]], axis=1)
    assert (moved != ids).any()
    observation = {**EXAMPLE.get(program), "input_ids": moved}
    checked(program, observation)
    with torch.no_grad():
        expected = module(**{**given, "input_ids": torch.tensor(moved), "use_cache": False})[0]
    made = run_program(program, observation)[program.outputs[0].name]
    bound = 1e-5 * np.abs(expected.numpy()).max()
    np.testing.assert_allclose(made, expected, rtol=0, atol=bound)
    more = np.where(ids == ids.max(), ids, ids.max())
    with pytest.raises(ObservationError, match=r"input_ids: chooses \d+ places"):
        checked(program, {**observation, "input_ids": more})


@pytest.mark.slow
def test_a_picture_of_padding_is_refused() -> None:
    torch.manual_seed(0)
    module, given = FAMILIES["smolvlm"]()
    program = program_from_module(module.eval(), (), given, name="smolvlm")
    observation = EXAMPLE.get(program)
    padding = {**observation, "pixel_values": np.zeros_like(observation["pixel_values"])}
    with pytest.raises(ObservationError, match=r"pixel_values: .* decides otherwise"):
        checked(program, padding)


def test_a_session_refuses_before_anything_runs(tmp_path: Path) -> None:
    module, _ = traced(MASKS["equal"])
    target = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "10MB/s,20ms"}
    given = {"ids": IDS, "rows": ROWS}
    vlacut.compile(module, kwargs=given, **target, out=tmp_path / "out.vlacut")
    observation = {name: tensor.numpy() for name, tensor in given.items()}
    with vlacut.connect(tmp_path / "out.vlacut") as policy:
        policy.step(observation)
        with pytest.raises(ObservationError, match="ids: chooses 1 places, and the bundle was"):
            policy.step({**observation, "ids": np.array([7, 0, 0, 0, 0, 0])})
        policy.step(observation)


def test_premises_are_stored(tmp_path: Path) -> None:
    _, program = traced(MASKS["equal"])
    write_program(program, tmp_path)
    assert PREMISES.get(read_program(tmp_path)) == PREMISES.get(program)


@pytest.mark.parametrize(
    "operations",
    [
        (),
        (Operation("input", (), "ids", (), (6,)), Operation("not", (1,), shape=(6,))),
        (Operation("input", (), "ids", (), (6,)), Operation("expand", (0,), shape=(1 << 40,))),
    ],
)
def test_a_forged_premise_is_none(operations: tuple[Operation, ...]) -> None:
    with pytest.raises(ValueError, match="premise"):
        Premise(operations, (1.0,), True, "model.py:1")


@pytest.mark.parametrize(
    "last",
    [
        Operation("open", (0,), shape=(6,)),
        Operation("take", (0,), "", (99.0,), (1,)),
        Operation("reshape", (0,), shape=(7,)),
        Operation("input", (), "secret", (), (6,)),
        Operation("eq", (0,), shape=(6,)),
    ],
)
def test_a_premise_that_cannot_be_asked_is_refused(last: Operation) -> None:
    premise = Premise((Operation("input", (), "ids", (), (6,)), last), (1.0,), True, "model.py:1")
    with pytest.raises(ValueError, match="cannot be asked"):
        premise.check([TensorSpec("ids", "int64", (6,))])
