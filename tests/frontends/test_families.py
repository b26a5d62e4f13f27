"""Models of transformers as they are: traced without glue, cut at random, and held to PyTorch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support.cutting import cut_at_random
from support.families import FAMILIES, other_values
from torch.utils import _pytree as pytree

from vlacut.errors import ObservationError
from vlacut.frontends.torch import program_from_module
from vlacut.frontends.traceable import caches
from vlacut.ir.annotation import EXAMPLE, FIXED, PREMISES
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program
from vlacut.runtime.edge.session import check_observation

FAST = ("smolvlm", "llama_with_cache")
# What fails, and why; the README of models lists these.
FAILING = {
    "phi4_multimodal": (
        "transformers 5.23 computes another picture with the mask of its vision tower made than "
        "with it left out, in PyTorch itself"
    )
}
BOUND = 1e-5  # of the largest magnitude

Given = dict[str, object]
Observation = dict[str, np.ndarray]


def traced(module: torch.nn.Module, given: Given, name: str) -> Program:
    program = program_from_module(module, (), given, name=name)
    parse_pipeline("simplify").run(program)
    return program


def eager(module: torch.nn.Module, given: Given) -> list[np.ndarray]:
    """What the module itself returns, caches flattened, in order."""
    with torch.no_grad():
        made = module(**copy.deepcopy(given))  # it writes into a cache
    plain = [caches.flatten(one) if caches.is_cache(one) else one for one in made.values()]
    leaves = pytree.tree_leaves(plain)
    return [leaf.float().numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)]


def another(program: Program) -> Observation:
    """The example with other values in every input that may have others: what the program takes
    for granted of an input holds it to the example's.
    """
    specs = {spec.name: spec for spec in program.inputs}
    fixed = {name: tuple(array.flat) for name, array in (FIXED.find(program) or {}).items()}
    example = EXAMPLE.get(program)
    made = dict(example)
    for name, array in other_values(program.inputs, example).items():
        tried = {**made, name: array}
        try:
            check_observation(specs, tried, fixed, premises=PREMISES.find(program) or ())
        except ObservationError:
            continue
        made = tried
    return made


def as_given(given: Given, observed: Observation) -> Given:
    """Arguments of the module that hold an observation."""
    made = dict(given)
    for name, one in given.items():
        if isinstance(one, torch.Tensor):
            made[name] = torch.tensor(observed[name]).to(one.dtype)
        elif caches.is_cache(one):
            held = {slot: torch.tensor(observed[slot]) for slot in caches.flatten(one)}
            made[name] = caches.unflatten(one, held)
    return made


def marks(name: str) -> list[pytest.MarkDecorator]:
    slow = [] if name in FAST else [pytest.mark.slow]
    failing = [pytest.mark.xfail(reason=FAILING[name])] if name in FAILING else []
    return slow + failing


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in FAMILIES])
def test_a_family_is_traced_without_glue(name: str) -> None:
    torch.manual_seed(0)
    module, given = FAMILIES[name]()
    module.eval()
    if getattr(module.config.get_text_config(), "use_cache", False) is True:
        asked = {"use_cache": False, **given}
    else:
        asked = given
    expected = eager(module, asked)
    program = traced(module, given, name)
    other = another(program)
    changed = [key for key, array in EXAMPLE.get(program).items() if (array != other[key]).any()]
    assert changed
    made = cut_at_random(program, 4, other)
    meant = (expected, eager(module, as_given(asked, other)))
    for what, outputs, eagers in zip(("example", "another"), made, meant, strict=True):
        assert len(outputs) == len(eagers)
        for spec, one, wanted in zip(program.outputs, outputs, eagers, strict=True):
            assert np.isfinite(wanted).all(), what
            off = np.abs(one.astype(np.float32) - wanted).max()
            assert off <= BOUND * np.abs(wanted).max(), (what, spec.name, changed)
