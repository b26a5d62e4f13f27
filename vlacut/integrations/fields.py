"""Fields: what a client calls its observations, as inputs of a bundle.

    KEY=INPUT               the client's KEY is the bundle's INPUT
    KEY=INPUT:LOW..HIGH     a picture in bytes: 0 becomes LOW and 255 becomes HIGH
    KEY=                    the client sends KEY, and this bundle has no use for it

A key that no field names is the input of that name. Keys of nested maps are joined by `/`. Several
keys of one input are joined along its last axis, in the order of the fields.

What is done to a tensor: leading axes of 1 are added, a picture [h, w, c] is turned to [c, h, w]
or back where only that fits, floats and integers take the input's width. Bytes become floats only
where a field says how: no dtype tells whether a policy wants 0 to 1 or -1 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from vlacut.errors import InputError, ObservationError, suggestion
from vlacut.integrations.fitting import array_of, fitted, joined
from vlacut.tensor import TensorSpec

_MOST_DEPTH = 8


@dataclass(frozen=True)
class Field:
    """A client's key, and what it is to the bundle.

    Attributes:
        key: as the client has it.
        input: of the bundle; empty where it has no use for the key.
        span: what 0 and 255 of a picture in bytes become; None where it stays as it is.
    """

    key: str
    input: str
    span: tuple[float, float] | None = None


def parse_field(text: str) -> Field:
    """The field that a text declares, see the module's docstring; InputError if it does not."""
    key, equals, rest = text.rpartition("=")
    name, colon, span = rest.rpartition(":") if ".." in rest else (rest, "", "")
    if not equals or not key or (colon and not name):
        raise InputError(f"field {text!r} does not parse; write KEY=INPUT or KEY=INPUT:LOW..HIGH")
    if not colon:
        return Field(key, rest)
    try:
        low, high = (float(each) for each in span.split(".."))
    except ValueError as error:
        raise InputError(f"field {text!r}: write {name}:LOW..HIGH, e.g. {name}:-1..1") from error
    if not (math.isfinite(low) and math.isfinite(high) and low != high):
        raise InputError(f"field {text!r}: 0 and 255 must become two finite numbers")
    return Field(key, name, (low, high))


class Fields:
    """Makes observations of a bundle out of what a client sends.

    Args:
        inputs: of the bundle.
        fields: what keys are; a key that is not among them is the input of its name.
        fixed: inputs that no client sends, by name.
        drawn: names of inputs that may be missing, for the session draws them.

    Raises InputError where a field or a fixed tensor names no input, or a field says again what
    another has said.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        fields: Sequence[Field] = (),
        fixed: Mapping[str, np.ndarray] = MappingProxyType({}),
        drawn: Container[str] = (),
    ) -> None:
        self._inputs = {spec.name: spec for spec in inputs}
        self._fields = {field.key: field for field in fields}
        self._fixed, self._drawn = dict(fixed), drawn
        if len(self._fields) < len(fields):
            keys = [field.key for field in fields]
            raise InputError(f"field {max(keys, key=keys.count)!r} is given twice")
        for name in [field.input for field in fields if field.input] + list(fixed):
            if name not in self._inputs:
                raise InputError(f"the bundle has no input {name!r}; {self._nearest(name)}")
        for field in fields:
            if field.input in self._fixed:
                raise InputError(f"input {field.input!r} is fixed, and field {field.key!r} too")

    @property
    def most_bytes(self) -> int:
        """More than any message takes that holds the observation alone: 8 bytes an element."""
        return sum(8 * math.prod(spec.shape) for spec in self._inputs.values())

    def has(self, key: str) -> bool:
        """Whether a client's key is, or becomes, something of the bundle's."""
        return key in self._fields or key in self._inputs

    def observation(self, sent: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The observation, by input.

        Args:
            sent: arrays, numbers, lists of numbers, text and maps of such, by key.

        Raises ObservationError that names the key, and the nearest name of what it may have been.
        """
        pieces: dict[str, list[tuple[str, np.ndarray]]] = {}
        for key, value in _flat(sent, ""):
            field = self._fields.get(key) or Field(key, key)
            if not field.input:
                continue
            self._expect(key, field.input)
            pieces.setdefault(field.input, []).append((key, array_of(key, value)))
        made = dict(self._fixed)
        for name, given in pieces.items():
            made[name] = self._fitted(name, given)
        lacks = [spec for name, spec in self._inputs.items() if name not in made]
        missing = [str(spec) for spec in lacks if spec.name not in self._drawn]
        if missing:
            raise ObservationError(
                f"missing from the observation: {', '.join(missing)}; send it, say which key it is "
                f"with --map, or give what never changes with --input"
            )
        return made

    def _expect(self, key: str, name: str) -> None:
        if name not in self._inputs:
            raise ObservationError(
                f"the bundle has no input {name!r}; {self._nearest(name, self._fields)} "
                f"(--map {key}=INPUT says what it is, --map {key}= that it is not needed)"
            )
        if name in self._fixed:
            raise ObservationError(f"{key}: input {name!r} is fixed by --input; do not send it")

    def _nearest(self, name: str, keys: Iterable[str] = ()) -> str:
        """What a name may have meant; most clients put a path before it.

        Args:
            name: of an input, or a client's key.
            keys: that may have been meant, beside inputs.
        """
        known = [*(one for one in self._inputs if one not in self._fixed), *keys]
        whole = suggestion(name, known)
        last = suggestion(name.rpartition("/")[2].rpartition(".")[2], known)
        return last if last.endswith("?") and not whole.endswith("?") else whole

    def _fitted(self, name: str, given: list[tuple[str, np.ndarray]]) -> np.ndarray:
        spec, keys = self._inputs[name], [key for key, _ in given]
        if len(given) == 1:
            array = given[0][1]
        else:
            order = {key: place for place, key in enumerate(self._fields)}
            given = sorted(given, key=lambda pair: order.get(pair[0], len(order)))
            array = joined(name, given)
        said = " and ".join(keys)
        field = self._fields.get(keys[0])
        return fitted(said, array, spec, field.span if field else None)


def _flat(sent: Mapping[str, Any], path: str, depth: int = 0) -> list[tuple[str, Any]]:
    """Keys with the paths of the maps that they are in, and their values."""
    if depth > _MOST_DEPTH:
        raise ObservationError(f"the maps of the observation are more than {_MOST_DEPTH} deep")
    found: list[tuple[str, Any]] = []
    for key, value in sent.items():
        if not isinstance(key, str):
            raise ObservationError(f"key {key!r} of the observation is no text")
        if isinstance(value, Mapping):
            found += _flat(value, f"{path}{key}/", depth + 1)
        else:
            found.append((path + key, value))
    return found
