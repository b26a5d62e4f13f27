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

from vlacut.errors import ModelError, suggestion
from vlacut.frontends.json_files import read_json
from vlacut.frontends.lerobot.scales import Scale, Step, read_scales

BEFORE, AFTER = "policy_preprocessor.json", "policy_postprocessor.json"


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
        _KNOWN[called](made, Step(where, folder, config, said.get("state_file")))
    return made


def _nothing(made: Steps, step: Step) -> None:
    """A step that moves tensors, and changes none: the device, the batch axis."""
    if step.config.get("float_dtype") not in (None, "float32"):
        raise step.refuse(f"float_dtype {step.config['float_dtype']!r} is not compiled; it is null")


def _rename(made: Steps, step: Step) -> None:
    names = step.config.get("rename_map", {})
    if not isinstance(names, dict) or not all(isinstance(one, str) for one in names.values()):
        raise step.refuse("rename_map is no object of names")
    # Steps follow each other: what an earlier one renamed is found under its new name.
    for old, new in names.items():
        made.renamed[new] = made.renamed.pop(old, old)


def _newline(made: Steps, step: Step) -> None:
    made.newline = True


def _tokenize(made: Steps, step: Step) -> None:
    if made.tokenizer is not None:
        raise step.refuse("a second tokenizer")
    made.tokenizer = step.config


def _write_state(made: Steps, step: Step) -> None:
    if step.config.get("include_state_in_prompt", True) is not True:
        raise step.refuse("include_state_in_prompt is not true: a memory of states is not compiled")
    made.writes_state = True


def _relative(made: Steps, step: Step) -> None:
    if step.config.get("enabled", False):
        made.relative = step.config


def _normalise(made: Steps, step: Step) -> None:
    for name, scale in read_scales(step, written=made.writes_state).items():
        if name in made.scales:
            raise step.refuse(f"{name} is normalised a second time")
        made.scales[name] = scale


_KNOWN: dict[str, Callable[[Steps, Step], None]] = {
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
