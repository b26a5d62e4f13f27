"""The wiring of a node: which topic is which input, and where commands go; a YAML file.

    bundle: policy.vlacut
    cloud: 10.0.0.5:7000            # none for a bundle that runs on the robot alone
    tls: keys/robot                 # off loopback
    deadline_s: 0.2
    rate_hz: 5                      # steps a second
    max_age_s: 0.5                  # no step on what is older
    inputs:
      observation.images.front: {topic: /front/image_raw, type: sensor_msgs/msg/Image}
      observation.state: {topic: /joint_states, type: sensor_msgs/msg/JointState,
                          field: position, names: [shoulder, elbow]}
    output: {topic: /arm/joint_trajectory, names: [shoulder, elbow], period_s: 0.02}
    diagnostics: /diagnostics

Paths of the file are relative to it. An input of bytes that takes floats says `span: [-1, 1]`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlacut.errors import InputError, suggestion
from vlacut.integrations.fields import Field

_TYPE = re.compile(r"\w+/msg/\w+")
_MOST_BYTES = 1 << 18
_MOST_ALIASES = 16  # each may double what the file says, and what an error shows of it
_TOP = ("bundle", "cloud", "tls", "deadline_s", "rate_hz", "max_age_s", "seed", "inputs", "output")
_KEYS = {
    "": (*_TOP, "diagnostics"),
    "inputs": ("topic", "type", "field", "names", "span"),
    "output": ("topic", "names", "period_s", "chunk"),
}


@dataclass(frozen=True)
class Source:
    """Where an input comes from.

    Attributes:
        topic, type: of the messages: `/joint_states`, `sensor_msgs/msg/JointState`.
        field: of the message, by its path; empty for what the type has one of.
        names: of the joints, in the input's order; empty for the message's order.
        span: what 0 and 255 of bytes become; None where they stay.
    """

    topic: str
    type: str
    field: str = ""
    names: tuple[str, ...] = ()
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class Wiring:
    """What a file says; see the module's docstring.

    Attributes:
        bundle: to open.
        cloud, tls: as of `vlacut.connect`; empty for none.
        deadline_s: of a step; None for no limit.
        rate_hz: steps a second.
        max_age_s: the oldest observation that a step is made of.
        seed: of the noise.
        inputs: sources by input.
        topic: where trajectories go.
        names: joints of a command.
        period_s: from a command to the next.
        chunk: the output with the commands, as `--chunk` has it; empty for the only one.
        diagnostics: their topic; empty for none.
    """

    bundle: Path
    cloud: str
    tls: str
    deadline_s: float | None
    rate_hz: float
    max_age_s: float
    seed: int
    inputs: Mapping[str, Source]
    topic: str
    names: tuple[str, ...]
    period_s: float
    chunk: str
    diagnostics: str

    def fields(self) -> list[Field]:
        """The inputs as `OpenpiPolicy` takes them."""
        return [Field(name, name, one.span) for name, one in self.inputs.items()]


def read_wiring(file: Path) -> Wiring:
    """The wiring that a file says; InputError naming what of it is wrong."""
    said = _parsed(file)
    where = str(file)
    _known(where, "", said)
    inputs, output = said.get("inputs"), said.get("output")
    if not isinstance(inputs, dict) or not inputs or not isinstance(output, dict):
        raise InputError(f"{where}: needs bundle, inputs and output")
    _known(f"{where}: output", "output", output)
    rate = _number(where, said, "rate_hz", 5.0)
    if not rate:
        raise InputError(f"{where}: rate_hz is 0, and no step would be made")
    period = _number(f"{where}: output", output, "period_s", 1 / rate)
    if not period:
        raise InputError(f"{where}: output: period_s is 0, and all commands would be due at once")
    seed = said.get("seed", 0)
    if type(seed) is not int or seed < 0:
        raise InputError(f"{where}: seed is {seed!r:.60}, and must be a whole number from 0 on")
    return Wiring(
        bundle=file.parent / _text(where, said, "bundle"),
        cloud=_text(where, said, "cloud", ""),
        tls=str(file.parent / said["tls"]) if _text(where, said, "tls", "") else "",
        deadline_s=_number(where, said, "deadline_s", 0.0) or None,
        rate_hz=rate,
        max_age_s=_number(where, said, "max_age_s", 1.0),
        seed=seed,
        inputs={str(name): _source(f"{where}: {name}", one) for name, one in inputs.items()},
        topic=_text(f"{where}: output", output, "topic"),
        names=_names(f"{where}: output", output),
        period_s=period,
        chunk=_text(f"{where}: output", output, "chunk", ""),
        diagnostics=_text(where, said, "diagnostics", ""),
    )


def _parsed(file: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise InputError("--config needs pyyaml: pip install 'vlacut[ros2]'") from error
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise InputError(f"{file}: is larger than {_MOST_BYTES} bytes")
        text = file.read_text(encoding="utf-8")
        events = yaml.parse(text, yaml.SafeLoader)
        if sum(isinstance(one, yaml.AliasEvent) for one in events) > _MOST_ALIASES:
            raise InputError(f"{file}: has more than {_MOST_ALIASES} aliases (*name)")
        said = yaml.safe_load(text)
    # PyYAML's constructors raise what Python does where a text is not of its tag: a day 32, say.
    except (
        *(OSError, ValueError, LookupError, AttributeError, RecursionError),
        yaml.YAMLError,
    ) as error:
        raise InputError(f"{file}: cannot be read as YAML: {error}") from error
    if not isinstance(said, dict):
        raise InputError(f"{file}: is no YAML map")
    return said


def _known(where: str, kind: str, said: Mapping[Any, Any]) -> None:
    for key in said:
        if key not in _KEYS[kind]:
            raise InputError(
                f"{where}: no setting {key!r:.60}; {suggestion(str(key), _KEYS[kind])}"
            )


def _source(where: str, said: Any) -> Source:
    if not isinstance(said, dict):
        raise InputError(f"{where}: write {{topic: ..., type: PACKAGE/msg/NAME}}")
    _known(where, "inputs", said)
    kind, span = _text(where, said, "type"), said.get("span")
    if not _TYPE.fullmatch(kind):
        raise InputError(f"{where}: type {kind!r:.60} is none; e.g. sensor_msgs/msg/Image")
    ends: tuple[float, float] | None = None
    if span is not None:
        right = isinstance(span, list) and len(span) == 2
        if not right or not all(map(_is_number, span)):
            raise InputError(f"{where}: span is two numbers, e.g. [-1, 1]")
        ends = float(span[0]), float(span[1])
    names = _names(where, said) if "names" in said else ()
    return Source(_text(where, said, "topic"), kind, _text(where, said, "field", ""), names, ends)


def _names(where: str, said: Mapping[str, Any]) -> tuple[str, ...]:
    names = said.get("names")
    if not isinstance(names, list) or not names or not all(isinstance(one, str) for one in names):
        raise InputError(f"{where}: names is no list of joints")
    if len(set(names)) < len(names):
        raise InputError(f"{where}: names has one joint twice")
    return tuple(names)


def _text(where: str, said: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = said.get(key, default)
    if not isinstance(value, str) or (default is None and not value):
        raise InputError(f"{where}: {key} is {value!r:.60}, and must be a text")
    return value


def _number(where: str, said: Mapping[str, Any], key: str, default: float) -> float:
    value = said.get(key, default)
    if not _is_number(value) or value < 0:
        raise InputError(f"{where}: {key} is {value!r:.60}, and must be a number from 0 on")
    return float(value)


def _is_number(value: Any) -> bool:
    """Whether it is one that a float holds."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max
