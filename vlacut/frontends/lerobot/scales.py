"""Statistics of a checkpoint: how its steps normalise tensors, by what their state files hold.

Source: huggingface/lerobot, src/lerobot/processor/normalize_processor.py, 0.4.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlacut.errors import ModelError
from vlacut.frontends.checkpoint import Stored, read_files

IDENTITY = "IDENTITY"
# Statistics that each mode reads: two numbers an element, the lower or the mean first.
MODES = {
    IDENTITY: (),
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
}
_EPSILON = 1e-8


@dataclass(frozen=True)
class Scale:
    """How a tensor is normalised.

    Attributes:
        mode: of `MODES`.
        first, second: the statistics that it reads, in float32.
        epsilon: as LeRobot has it, against division by zero.
    """

    mode: str
    first: np.ndarray
    second: np.ndarray
    epsilon: float


@dataclass(frozen=True)
class Step:
    """One step as it is written.

    Attributes:
        where: file and place, for errors.
        folder: of the checkpoint.
        config: its settings.
        state_file: name of the file with its tensors; None where it has none.
    """

    where: str
    folder: Path
    config: Mapping[str, Any]
    state_file: Any

    def refuse(self, why: str) -> ModelError:
        """The error that says why it is not compiled."""
        return ModelError(f"{self.where}: {why}")

    def state(self) -> dict[str, Stored]:
        """The tensors of its state; none if it has none."""
        if self.state_file is None:
            return {}
        name = self.state_file
        if not isinstance(name, str) or Path(name).name != name:
            raise self.refuse(f"state_file {name!r:.80} is no name of a file in the folder")
        return read_files([self.folder / name])


def read_scales(step: Step, written: bool) -> dict[str, Scale]:
    """How a step normalises, by the policy's names.

    Args:
        step: a normaliser, or what undoes one.
        written: whether the state has been written as words before it.

    Raises ModelError for settings that are not known, and statistics that are missing.
    """
    made: dict[str, Scale] = {}
    config, state = step.config, step.state()
    modes, features = config.get("norm_map"), config.get("features")
    if not isinstance(modes, dict) or not isinstance(features, dict):
        raise step.refuse("it needs norm_map and features")
    epsilon = config.get("eps", _EPSILON)
    if type(epsilon) not in (int, float) or not 0 <= epsilon <= 1:
        raise step.refuse(f"eps is {epsilon!r:.40}")
    chosen = config.get("normalize_observation_keys")
    if chosen is not None and not isinstance(chosen, list):
        raise step.refuse(f"normalize_observation_keys is {chosen!r:.40}")
    for name, feature in features.items():
        kind = feature.get("type") if isinstance(feature, dict) else None
        mode = modes.get(kind, IDENTITY) if isinstance(kind, str) else None
        if not isinstance(mode, str) or mode not in MODES:
            raise step.refuse(f"mode {mode!r:.40} of {kind} is not one of {', '.join(MODES)}")
        left_out = chosen is not None and name not in chosen and kind != "ACTION"
        known = any(key.rpartition(".")[0] == name for key in state)
        if mode == IDENTITY or left_out or not known:
            continue  # what has no statistics stays as it is, there too
        if written and kind == "STATE":
            raise step.refuse(f"{name} is normalised behind the step that writes it as words")
        first, second = (_statistic(step, state, f"{name}.{one}") for one in MODES[mode])
        made[name] = Scale(mode, first, second, float(epsilon))
    return made


def _statistic(step: Step, state: Mapping[str, Stored], name: str) -> np.ndarray:
    if name not in state:
        raise step.refuse(f"its statistics lack {name}, which its mode needs")
    array = state[name].tensor(name).numpy()
    if array.dtype.kind not in "fiu":
        raise step.refuse(f"{name} is of {array.dtype}: no numbers")
    return np.array(array, np.float32)
