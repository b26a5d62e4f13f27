"""Processor steps: what LeRobot does before and after a policy, read out of its two JSON files.

    {"name": ..., "steps": [{"registry_name": "normalizer_processor", "config": {...},
                             "state_file": "policy_preprocessor_step_3_....safetensors"}, ...]}

Steps are a table by `registry_name`; one that is not in it is refused by its name, for a step that
is left out makes wrong actions. Statistics are where `state_file` says, whatever its number.

Source: huggingface/lerobot, src/lerobot/processor/*.py, 0.4.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vlacut.errors import ModelError, suggestion
from vlacut.frontends.checkpoint import Stored, read_files
from vlacut.frontends.json_files import read_json

BEFORE, AFTER = "policy_preprocessor.json", "policy_postprocessor.json"
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


@dataclass
class Steps:
    """What a pipeline of steps does.

    Attributes:
        renamed: names of the robot's by those of the policy's.
        scales: how tensors are normalised, by the policy's name; others stay as they are.
        newline: whether a prompt is made to end with a newline.
        tokenizer: settings of the tokeniser; None where there is no prompt.
        writes_state: whether the state is written into the prompt.
        relative: settings of actions that are relative to the state; None where they are not.
    """

    renamed: dict[str, str] = field(default_factory=dict)
    scales: dict[str, Scale] = field(default_factory=dict)
    newline: bool = False
    tokenizer: Mapping[str, Any] | None = None
    writes_state: bool = False
    relative: Mapping[str, Any] | None = None


def read_steps(folder: Path, name: str) -> Steps:
    """The steps of `BEFORE` or `AFTER` in a checkpoint folder.

    Raises ModelError naming a step that is not known, or what is wrong with the files.
    """
    file = folder / name
    if not file.is_file():
        raise ModelError(
            f"{file}: no such file; a checkpoint of LeRobot before 0.4 is brought up to date by "
            f"its own lerobot/processor/migrate_policy_normalization.py"
        )
    listed = read_json(file).get("steps")
    if not isinstance(listed, list):
        raise ModelError(f"{file}: has no list of steps")
    made = Steps()
    for place, step in enumerate(listed):
        where = f"{file}: step {place}"
        said = step if isinstance(step, dict) else {}
        called = said.get("registry_name") or said.get("class")
        if not isinstance(called, str) or called not in _KNOWN:
            raise ModelError(
                f"{where}, {called!r:.80}, is not known here, and leaving it out would make other "
                f"actions; {suggestion(str(called), _KNOWN)}"
            )
        config = said.get("config") or {}
        if not isinstance(config, dict):
            raise ModelError(f"{where}: config is no object")
        _KNOWN[called](made, _Step(where, folder, config, said.get("state_file")))
    return made


@dataclass(frozen=True)
class _Step:
    """One step as it is written."""

    where: str
    folder: Path
    config: Mapping[str, Any]
    state_file: Any

    def refuse(self, why: str) -> ModelError:
        return ModelError(f"{self.where}: {why}")

    def state(self) -> dict[str, Stored]:
        """The tensors of its state; none if it has none."""
        if self.state_file is None:
            return {}
        name = self.state_file
        if not isinstance(name, str) or Path(name).name != name:
            raise self.refuse(f"state_file {name!r:.80} is no name of a file in the folder")
        return read_files([self.folder / name])


def _nothing(made: Steps, step: _Step) -> None:
    """A step that moves tensors, and changes none: the device, the batch axis."""
    if step.config.get("float_dtype") not in (None, "float32"):
        raise step.refuse(f"float_dtype {step.config['float_dtype']!r} is not compiled; it is null")


def _rename(made: Steps, step: _Step) -> None:
    names = step.config.get("rename_map", {})
    if not isinstance(names, dict) or not all(isinstance(one, str) for one in names.values()):
        raise step.refuse("rename_map is no object of names")
    # Steps follow each other: what an earlier one renamed is found under its new name.
    for old, new in names.items():
        made.renamed[new] = made.renamed.pop(old, old)


def _newline(made: Steps, step: _Step) -> None:
    made.newline = True


def _tokenize(made: Steps, step: _Step) -> None:
    if made.tokenizer is not None:
        raise step.refuse("a second tokenizer")
    made.tokenizer = step.config


def _write_state(made: Steps, step: _Step) -> None:
    if step.config.get("include_state_in_prompt", True) is not True:
        raise step.refuse("include_state_in_prompt is not true: a memory of states is not compiled")
    made.writes_state = True


def _relative(made: Steps, step: _Step) -> None:
    if step.config.get("enabled", False):
        made.relative = step.config


def _normalise(made: Steps, step: _Step) -> None:
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
        if name in made.scales:
            raise step.refuse(f"{name} is normalised a second time")
        if made.writes_state and kind == "STATE":
            raise step.refuse(f"{name} is normalised behind the step that writes it as words")
        first, second = (_statistic(step, state, f"{name}.{one}") for one in MODES[mode])
        made.scales[name] = Scale(mode, first, second, float(epsilon))


def _statistic(step: _Step, state: Mapping[str, Stored], name: str) -> np.ndarray:
    if name not in state:
        raise step.refuse(f"its statistics lack {name}, which its mode needs")
    array = state[name].tensor(name).numpy()
    if array.dtype.kind not in "fiu":
        raise step.refuse(f"{name} is of {array.dtype}: no numbers")
    return np.array(array, np.float32)


_KNOWN: dict[str, Callable[[Steps, _Step], None]] = {
    "rename_observations_processor": _rename,
    "to_batch_processor": _nothing,
    "device_processor": _nothing,
    "normalizer_processor": _normalise,
    "unnormalizer_processor": _normalise,
    "smolvla_new_line_processor": _newline,
    "pi0_new_line_processor": _newline,
    "pi05_prepare_state_tokenizer_processor_step": _write_state,
    "relative_actions_processor": _relative,
    "absolute_actions_processor": _relative,
    "tokenizer_processor": _tokenize,
}
