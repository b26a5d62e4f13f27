"""Measured costs: what `vlacut profile` writes and `--costs` reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vlacut.bundle.serde import from_json, to_json
from vlacut.bundle.staging import write_file
from vlacut.errors import BundleError, InputError
from vlacut.hardware import Side

FORMAT = 1


@dataclass(frozen=True)
class MeasuredPart:
    """How long a part takes where it runs.

    Attributes:
        name, phase, inputs, outputs, digest: those of the part, as in `Part`.
        side: the machine that was measured.
        device: the name under which a plan knows that machine.
        predicted_s: what the plan said.
        seconds: median of the measurements.
        low_s, high_s: their quartiles.
        turns: how many measurements there were.

    Raises ValueError for seconds that are not above 0 and between their quartiles.
    """

    name: str
    phase: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    digest: str
    side: Side
    device: str
    predicted_s: float
    seconds: float
    low_s: float
    high_s: float
    turns: int

    def __post_init__(self) -> None:
        if not 0 < self.low_s <= self.seconds <= self.high_s < math.inf:
            raise ValueError(f"part {self.name}: seconds must be above 0, between their quartiles")


@dataclass(frozen=True)
class MeasuredCosts:
    """What a machine measured of a bundle.

    Attributes:
        format: number of the file's format.
        program: name of the model.
        bundle: digest of the bundle, in hexadecimal.
        backend: executor that ran the parts.
        host: the machine, for people.
        versions: versions of the software that ran the parts.
        parts: in the order of the plan.
    """

    format: int
    program: str
    bundle: str
    backend: str
    host: str
    versions: Mapping[str, str]
    parts: tuple[MeasuredPart, ...]


def write_costs(path: Path, costs: MeasuredCosts) -> None:
    """Write a file of measured costs."""
    text = json.dumps(to_json(costs), indent=1, sort_keys=True)
    write_file(path, text + "\n")


def read_costs(path: Path) -> MeasuredCosts:
    """The measured costs of a file, checked; InputError saying where it does not fit."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{path}: holds no costs of format {FORMAT}; run vlacut profile again")
    try:
        return from_json(MeasuredCosts, data, str(path))
    except BundleError as error:
        raise InputError(f"{error}; run vlacut profile again") from error
