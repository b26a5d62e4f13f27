"""`config.json` of a checkpoint folder: what a policy takes and gives, and its settings.

    {"type": "act", "input_features": {"observation.state": {"type": "STATE", "shape": [6]}, ...},
     "output_features": {"action": {"type": "ACTION", "shape": [6]}}, "chunk_size": 100, ...}

Source: huggingface/lerobot, src/lerobot/configs/{types,policies}.py, versions 0.4.0 to 0.6.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vlacut.errors import ModelError
from vlacut.frontends.json_files import read_json

STATE, VISUAL, ENV, ACTION = "STATE", "VISUAL", "ENV", "ACTION"
ACTIONS = "action"  # the one output that every policy has
_KINDS = (STATE, VISUAL, ENV, ACTION, "LANGUAGE", "REWARD")
_MOST_COUNT = 4096  # of actions in a chunk, steps, layers
_MOST_ELEMENTS = 1 << 28  # of a feature: a picture of 9000 x 9000 pixels

T = TypeVar("T", int, float, str, bool)


@dataclass(frozen=True)
class Feature:
    """A tensor that a policy takes or gives, without its batch axis.

    Attributes:
        kind: `STATE`, `VISUAL`, `ENV` or `ACTION`.
        shape: of a picture [channels, height, width].
    """

    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Config:
    """The configuration of a policy.

    Attributes:
        folder: that it is of.
        type: `act`, `smolvla`, ...
        inputs, outputs: features by name, in the order of the file.
        settings: the whole file.
    """

    folder: Path
    type: str
    inputs: Mapping[str, Feature]
    outputs: Mapping[str, Feature]
    settings: Mapping[str, Any]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the pictures, in the order in which the policy reads them."""
        return tuple(name for name, one in self.inputs.items() if one.kind == VISUAL)

    @property
    def actions(self) -> int:
        """Numbers in a command."""
        return self.outputs[ACTIONS].shape[0]

    def of(self, name: str, default: T) -> T:
        """A setting of the type of its default, which it has if the file does not say.

        Raises ModelError for one of another type.
        """
        value = self.settings.get(name, default)
        if type(default) is float and type(value) is int and abs(value) < 1 << 53:
            value = float(value)
        if type(value) is not type(default):
            raise ModelError(
                f"{self.folder / 'config.json'}: {name} is {value!r:.60}, and must be of the kind "
                f"of {default!r}"
            )
        return value

    def count(self, name: str, default: int) -> int:
        """A setting that is a number of things, and sizes what is made of it.

        Raises ModelError for one of another type, and for more or fewer than a policy has.
        """
        value = self.of(name, default)
        if not 0 < value <= _MOST_COUNT:
            raise ModelError(
                f"{self.folder / 'config.json'}: {name} is {value!r:.40}, and must be from 1 to "
                f"{_MOST_COUNT}"
            )
        return value

    def refuse(self, name: str, but: object, why: str) -> None:
        """Raise ModelError if a setting has another value than the one that is compiled."""
        value = self.settings.get(name, but)
        if value != but:
            where = self.folder / "config.json"
            raise ModelError(f"{where}: {name} = {value!r:.60} is not compiled: {why}")


def read_config(folder: Path) -> Config:
    """The configuration of a checkpoint folder.

    Raises ModelError naming the file and what of it is not of the format.
    """
    file = folder / "config.json"
    said = read_json(file)
    kind = said.get("type")
    if not isinstance(kind, str):
        raise ModelError(
            f"{file}: has no type: is {folder} a LeRobot checkpoint? it is the folder "
            f"pretrained_model of a training run"
        )
    inputs = _features(file, said.get("input_features"))
    outputs = _features(file, said.get("output_features"))
    if ACTIONS not in outputs or len(outputs[ACTIONS].shape) != 1:
        raise ModelError(f"{file}: output_features has no {ACTIONS} of one axis")
    for name, one in inputs.items():
        if one.kind == VISUAL and (len(one.shape) != 3 or one.shape[0] not in (1, 3, 4)):
            raise ModelError(f"{file}: {name} is no picture [channels, height, width]")
    return Config(folder, kind, inputs, outputs, said)


def _features(file: Path, said: Any) -> dict[str, Feature]:
    if not isinstance(said, dict) or not said:
        raise ModelError(f"{file}: says no features; train it, or save it with its features")
    return {name: read_feature(file, name, one) for name, one in said.items()}


def read_feature(file: Path, name: str, said: Any) -> Feature:
    """A feature as JSON has it; ModelError if it is none."""
    kind = said.get("type") if isinstance(said, dict) else None
    shape = said.get("shape") if isinstance(said, dict) else None
    right = isinstance(shape, list) and all(type(dim) is int and dim > 0 for dim in shape)
    if kind not in _KINDS or not right or not shape:
        raise ModelError(f"{file}: feature {name} is {said!r:.80}: it needs a type and a shape")
    total = 1
    for dim in shape:
        total *= dim
    if total > _MOST_ELEMENTS:
        raise ModelError(f"{file}: feature {name} of shape {shape} is too large")
    return Feature(kind, tuple(shape))
