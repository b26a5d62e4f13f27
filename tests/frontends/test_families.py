"""Models of transformers as they are: traced without glue, cut at random, and held to PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.cutting import cut_at_random
from support.families import FAMILIES
from torch.utils import _pytree as pytree

from vlacut.frontends.torch import program_from_module
from vlacut.frontends.traceable import caches
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program

FAST = ("smolvlm", "qwen2_5_vl", "mixtral", "llama_with_cache")
# What fails, and why; the README of models lists these.
FAILING = {
    "phi4_multimodal": (
        "transformers 5.23 computes another picture with the mask of its vision tower made than "
        "with it left out, in PyTorch itself"
    )
}
BOUND = 1e-5  # of the largest magnitude


def traced(name: str) -> tuple[torch.nn.Module, dict[str, object], Program]:
    torch.manual_seed(0)
    module, given = FAMILIES[name]()
    module.eval()
    program = program_from_module(module, (), given, name=name)
    parse_pipeline("simplify").run(program)
    return module, given, program


def eager(module: torch.nn.Module, given: dict[str, object]) -> list[np.ndarray]:
    """What the module itself returns, caches flattened, in order."""
    with torch.no_grad():
        made = module(**given)
    plain = [caches.flatten(one) if caches.is_cache(one) else one for one in made.values()]
    leaves = pytree.tree_leaves(plain)
    return [leaf.float().numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)]


def marks(name: str) -> list[pytest.MarkDecorator]:
    slow = [] if name in FAST else [pytest.mark.slow]
    failing = [pytest.mark.xfail(reason=FAILING[name])] if name in FAILING else []
    return slow + failing


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in FAMILIES])
def test_a_family_is_traced_without_glue(name: str) -> None:
    module, given, program = traced(name)
    makes_cache = getattr(module.config.get_text_config(), "use_cache", False) is True
    expected = eager(module, {"use_cache": False, **given} if makes_cache else given)
    made = [one.astype(np.float32) for one in cut_at_random(program)]
    assert len(made) == len(expected)
    for spec, one, other in zip(program.outputs, made, expected, strict=True):
        assert np.isfinite(other).all()
        assert np.abs(one - other).max() <= BOUND * np.abs(other).max(), spec.name
