"""What an engine by torch-tensorrt depends on beside what each of TensorRT's does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vlacut_backends.cuda.driver import Gpu
from vlacut_backends.tensorrt.execute import Keys
from vlacut_backends.tensorrt.key import engine_key

_COMPILER, _INPUTS, _OUTPUTS = "compiler", "inputs", "outputs"


def compiler_name() -> str:
    """torch-tensorrt and PyTorch, with their releases; both are here, where engines are built."""
    return f"torch-tensorrt {_version('torch-tensorrt')}, torch {_version('torch')}"


def torch_engine_key(model: Path, recipe: Mapping[str, str], tensorrt: str, gpu: Gpu) -> str:
    """As `engine_key`; another release of torch-tensorrt or PyTorch builds anew."""
    return engine_key(model, {**recipe, _COMPILER: compiler_name()}, tensorrt, gpu)


def kept_recipe(
    recipe: Mapping[str, str], inputs: Sequence[str], outputs: Sequence[str]
) -> dict[str, str]:
    """The recipe as the record of an engine has it: with the part's keys, in the engine's order,
    for the engine calls its inputs and outputs by names of its own.
    """
    keys = {_INPUTS: json.dumps(list(inputs)), _OUTPUTS: json.dumps(list(outputs))}
    return {**recipe, _COMPILER: compiler_name(), **keys}


def kept_keys(recipe: Mapping[str, str]) -> Keys:
    """The keys that `kept_recipe` put there. Raises ValueError or KeyError if it did not."""
    inputs, outputs = (json.loads(recipe[name]) for name in (_INPUTS, _OUTPUTS))
    return tuple(map(str, inputs)), tuple(map(str, outputs))


def _version(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "of an unknown version"
