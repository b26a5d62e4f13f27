"""What is set otherwise while a module is traced, and put back when the block ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.distributions import Distribution
from torch.utils import _pytree as pytree

from vlacut.frontends.traceable.experts import dense_experts

_NO_CHECKS = "TRANSFORMERS_DISABLE_TORCH_CHECK"  # read by transformers at every check
_EXPORTED = ("sdpa", "eager")  # attention that has an ONNX form
_EXPERTS = "vlacut"


@contextmanager
def set_for_tracing(module: nn.Module, notes: list[str]) -> Iterator[None]:
    """The module, transformers and torch as a trace needs them; `notes` gets what was chosen."""
    with ExitStack() as stack:
        stack.enter_context(_attributes_kept(module))
        stack.enter_context(_without_checks())
        for config in _configs(module):
            stack.enter_context(_exported_kinds(config, module, notes))
        stack.enter_context(_faithful_masks(module))
        yield


@contextmanager
def _attributes_kept(module: nn.Module) -> Iterator[None]:
    """Tensors that a forward notes on its modules are forgotten: they are of the trace."""
    before = [(item, dict(vars(item))) for item in module.modules()]
    try:
        yield
    finally:
        for item, attributes in before:
            for name, value in list(vars(item).items()):
                if attributes.get(name) is value or name in ("_parameters", "_buffers", "_modules"):
                    continue
                if any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value)):
                    vars(item).pop(name)
                    vars(item).update({name: attributes[name]} if name in attributes else {})


@contextmanager
def _without_checks() -> Iterator[None]:
    before, validates = os.environ.get(_NO_CHECKS), Distribution._validate_args
    os.environ[_NO_CHECKS] = "1"
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(validates)
        if before is None:
            del os.environ[_NO_CHECKS]
        else:
            os.environ[_NO_CHECKS] = before


def _configs(module: nn.Module) -> list[Any]:
    """The configurations of transformers in a module, each once."""
    found = {}
    for item in module.modules():
        config = getattr(item, "config", None)
        if hasattr(config, "_attn_implementation_internal"):
            found[id(config)] = config
    return list(found.values())


@contextmanager
def _exported_kinds(config: Any, module: nn.Module, notes: list[str]) -> Iterator[None]:
    """Let a configuration choose attention and experts that have an ONNX form."""
    before = {
        name: vars(config)[name]
        for name in ("_attn_implementation_internal", "_experts_implementation_internal")
        if name in vars(config)
    }
    attention = before.get("_attn_implementation_internal")
    try:
        if attention is not None and attention not in _EXPORTED:
            config._attn_implementation_internal = "sdpa"
            _say(notes, f"attention: sdpa in the place of {attention}")
        if before.get("_experts_implementation_internal") is not None and _has_experts(module):
            kinds = sys.modules["transformers.integrations.moe"].ALL_EXPERTS_FUNCTIONS
            kinds[_EXPERTS] = dense_experts
            config._experts_implementation_internal = _EXPERTS
            _say(notes, "experts: products of all of them at once, which have an ONNX form")
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


def _has_experts(module: nn.Module) -> bool:
    return any(hasattr(item, "_is_expert_parallel") for item in module.modules())


def _say(notes: list[str], line: str) -> None:
    if line not in notes:
        notes.append(line)


@contextmanager
def _faithful_masks(module: nn.Module) -> Iterator[None]:
    """Let a prefix model leave its mask out where it does so when it is not traced.

    Where no position is padding, transformers gives attention no mask but a flag, `is_causal`; if
    it traces, a causal mask. In a model whose attention is bidirectional these are not the same.
    Then the mask's values are asked for, and the mask is fixed.
    """
    masking: Any = sys.modules.get("transformers.masking_utils")
    prefix = any(getattr(one, "use_bidirectional_attention", None) for one in _configs(module))
    if masking is None or not prefix:
        yield
        return
    before = masking.is_torchdynamo_exporting, masking.is_tracing
    masking.is_torchdynamo_exporting = lambda: False
    masking.is_tracing = lambda *_: False
    try:
        yield
    finally:
        masking.is_torchdynamo_exporting, masking.is_tracing = before
