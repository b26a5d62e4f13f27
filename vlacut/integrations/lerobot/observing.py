"""Observations of LeRobot's robots, as inputs of a bundle.

A robot gives numbers and pictures by names of its own; `lerobot_features`, which the client sends
first, says which of them make which tensor:

    observation.state          {"dtype": "float32", "shape": [6], "names": ["j0.pos", ...]}
    observation.images.front   {"dtype": "image", "shape": [480, 640, 3], "names": [...]}

Source: huggingface/lerobot, src/lerobot/datasets/utils.py, build_dataset_frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlacut.errors import ObservationError, WireError, suggestion
from vlacut.integrations.fields import Fields
from vlacut.integrations.lerobot.stand_ins import MODULES, MOST_AXES, ReadRecord

_IMAGES = "observation.images."
_PICTURES = ("image", "video")
TASK = "task"


@dataclass(frozen=True)
class Instructions:
    """What a client says first.

    Attributes:
        module: where it has its classes.
        features: of its robot, by the policy's names: the tensor's shape, and the robot's names of
            its numbers, empty for a picture.
        renamed: names of the policy's by those of the features.
        commands: how many a chunk may hold.
    """

    module: str
    features: Mapping[str, tuple[tuple[int, ...], tuple[str, ...]]]
    renamed: Mapping[str, str]
    commands: int

    def raw(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors by the policy's names, of what the robot gave.

        Raises ObservationError naming what it did not give, or is no number.
        """
        made: dict[str, Any] = {}
        for name, (_, numbers) in self.features.items():
            key = self.renamed.get(name, name)
            wanted = numbers or (name.removeprefix(_IMAGES),)
            for one in wanted:
                if one not in values:
                    raise ObservationError(
                        f"{name}: the observation has no {one!r:.60}; {suggestion(one, values)}"
                    )
                if numbers and not _is_number(values[one]):
                    raise ObservationError(f"{name}: {one!r:.60} of the observation is no number")
            made[key] = [values[one] for one in numbers] if numbers else values[wanted[0]]
        return made

    def check(self, fields: Fields) -> None:
        """Raise ObservationError if what the robot gives is not what a bundle takes."""
        zeros: dict[str, Any] = {}
        for name, (shape, numbers) in self.features.items():
            if math.prod(shape) > fields.most_bytes:
                raise ObservationError(
                    f"{name}: {list(shape)} is more than the bundle takes at all"
                )
            kind = np.float32 if numbers else np.uint8
            zeros[self.renamed.get(name, name)] = np.broadcast_to(kind(0), shape)
        fields.observation(zeros)


def read_instructions(said: Any) -> Instructions:
    """What a client says of itself and its robot; WireError if it is none."""
    values = _record(said, "RemotePolicyConfig").values
    features, renamed = values.get("lerobot_features"), values.get("rename_map", {})
    commands = values.get("actions_per_chunk")
    if type(features) is not dict or type(commands) is not int or commands < 1:
        raise WireError("the client's policy config has no features, or no actions_per_chunk")
    if type(renamed) is not dict or not all(isinstance(one, str) for one in renamed.values()):
        raise WireError("the client's rename_map is no map of names")
    read = {
        name: _feature(name, one)
        for name, one in features.items()
        if str(name).startswith("observation.")
    }
    return Instructions(said.module, read, renamed, commands)


@dataclass(frozen=True)
class Observed:
    """An observation of a client's.

    Attributes:
        timestamp: in its clock, seconds.
        timestep: of its last command.
        values: what its robot gave, by its names.
    """

    timestamp: float
    timestep: int
    values: Mapping[str, Any]


def read_observation(said: Any) -> Observed:
    """An observation as a client sends it; WireError if it is none."""
    values = _record(said, "TimedObservation").values
    timestamp, timestep = values.get("timestamp"), values.get("timestep")
    observed = values.get("observation")
    right = isinstance(timestamp, float) and math.isfinite(timestamp) and type(timestep) is int
    if not right or type(observed) is not dict:
        raise WireError("the client's observation has no timestamp, no timestep, or nothing in it")
    assert isinstance(timestep, int)
    assert isinstance(timestamp, float)
    if not abs(timestep) < 1 << 62:
        raise WireError(f"the client's timestep is {timestep}")
    return Observed(timestamp, timestep, {str(name): one for name, one in observed.items()})


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.generic)) or (
        isinstance(value, np.ndarray) and value.ndim == 0
    )


def _record(said: Any, name: str) -> ReadRecord:
    if not isinstance(said, ReadRecord) or said.name != name or said.module not in MODULES:
        raise WireError(f"the message is no {name}")
    return said


def _feature(name: str, said: Any) -> tuple[tuple[int, ...], tuple[str, ...]]:
    shape = said.get("shape") if type(said) is dict else None
    if not isinstance(shape, (tuple, list)) or len(shape) > MOST_AXES:
        raise WireError(f"feature {name!r:.60} has no shape of at most {MOST_AXES} axes")
    if not all(type(one) is int and one > 0 for one in shape):
        raise WireError(f"feature {name!r:.60} has no shape")
    if said.get("dtype") in _PICTURES:
        return tuple(shape), ()
    names = said.get("names")
    right = isinstance(names, (tuple, list)) and all(isinstance(one, str) for one in names)
    if not right or len(names) != math.prod(shape):
        raise WireError(f"feature {name!r:.60} has not a name for each of its numbers")
    return tuple(shape), tuple(names)
