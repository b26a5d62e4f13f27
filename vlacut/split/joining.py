"""Joining: a program in several precisions, each split by its own cuts, as one set of parts.

The bundle's names have one meaning. So a part of another precision is called `PART@PRECISION`, and
so are its tensors and weights where theirs are not those of the same name. A part that is alike in
operators, tensors and weights is there once, and so is a weight that is the same tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import onnx_ir as ir

from vlacut.errors import InputError
from vlacut.plans.instructions import Instruction, Loop, Move, Run, Transfer
from vlacut.plans.plan import Part
from vlacut.split.parts import Split


@dataclass(frozen=True)
class Joined:
    """The schedules of one precision, in the names of the bundle.

    Attributes:
        schedules, firsts: as of `Split`.
        keys: of its tensors, by what they were called in its own split.
    """

    schedules: tuple[tuple[Instruction, ...], ...]
    firsts: tuple[tuple[Instruction, ...], ...]
    keys: Mapping[str, str]


class Joiner:
    """Adds the splits of other precisions to that of the program as it is.

    Args:
        first: that one; its names stay.
    """

    def __init__(self, first: Split) -> None:
        self._specs = {spec.name: spec for spec in first.tensors}
        self._weights: dict[str, list[ir.TensorProtocol | None]] = {}  # phases may have twins
        self._parts, self._models = list(first.parts), list(first.models)
        self._schedules, self._firsts = list(first.schedules), list(first.firsts)
        for model in first.models:
            for name, value in model.graph.initializers.items():
                self._weights.setdefault(name, []).append(value.const_value)
        self._known = {_likeness(part): part.name for part in first.parts}

    @property
    def split(self) -> Split:
        """All of it, the schedules in the order in which they were added."""
        return Split(
            tuple(self._parts),
            tuple(partial(_known, model) for model in self._models),
            tuple(self._schedules),
            tuple(self._firsts),
            tuple(self._specs.values()),
        )

    def add(self, precision: str, split: Split, fixed: Iterable[str]) -> Joined:
        """Add the split of a precision; its models are renamed in place.

        Args:
            precision: its name.
            split: of the program in it.
            fixed: keys that every variant must have alike: observation, action and state.

        Raises InputError where one of those is of another type in it.
        """
        keys = self._keys(precision, split, frozenset(fixed))
        names = {}
        for part, model in zip(split.parts, split.models, strict=True):
            made = self._renamed(precision, part, model, keys)
            known = self._known.get(_likeness(made))
            names[part.name] = known or made.name
            if known is None:
                self._known[_likeness(made)] = made.name
                self._parts.append(made)
                self._models.append(model)
        schedules, firsts = (
            tuple(_renamed(one, names, keys) for one in each)
            for each in (split.schedules, split.firsts)
        )
        self._schedules += schedules
        self._firsts += firsts
        return Joined(schedules, firsts, keys)

    def _keys(self, precision: str, split: Split, fixed: frozenset[str]) -> dict[str, str]:
        keys = {}
        for spec in split.tensors:
            known = self._specs.setdefault(spec.name, spec)
            keys[spec.name] = spec.name
            if known != spec:
                if spec.name in fixed:
                    raise InputError(
                        f"--precisions {precision}: {spec.name} is {spec.dtype} in it, and "
                        f"{known.dtype} in the program as it is; all variants share it"
                    )
                keys[spec.name] = name = f"{spec.name}@{precision}"
                self._specs[name] = replace(spec, name=name)
        return keys

    def _renamed(
        self, precision: str, part: Part, model: ir.Model, keys: Mapping[str, str]
    ) -> Part:
        """The part, its model renamed in place."""
        graph = model.graph
        for value in (*graph.inputs, *graph.outputs):
            value.name = keys[str(value.name)]
        names = {}
        for name, value in list(graph.initializers.items()):
            tensor = value.const_value
            names[name] = name
            if not any(tensor is one for one in self._weights.setdefault(name, [tensor])):
                names[name] = value.name = f"{name}@{precision}"
                self._weights.setdefault(names[name], []).append(tensor)
        return replace(
            part,
            name=f"{part.name}@{precision}",
            inputs=tuple(keys[key] for key in part.inputs),
            outputs=tuple(keys[key] for key in part.outputs),
            weights=tuple(sorted(names.get(name, name) for name in part.weights)),
        )


def _known(model: ir.Model) -> ir.Model:
    """A model that needs no extraction any more: it has been renamed."""
    return model


def _likeness(part: Part) -> tuple[object, ...]:
    """What two parts of one engine have in common."""
    return (part.phase, part.side, part.inputs, part.outputs, part.weights, part.digest)


def _renamed(
    schedule: Iterable[Instruction], parts: Mapping[str, str], keys: Mapping[str, str]
) -> tuple[Instruction, ...]:
    return tuple(
        replace(item, body=tuple(_one(each, parts, keys) for each in item.body))
        if isinstance(item, Loop)
        else _one(item, parts, keys)
        for item in schedule
    )


def _one(
    item: Run | Transfer | Move, parts: Mapping[str, str], keys: Mapping[str, str]
) -> Run | Transfer | Move:
    if isinstance(item, Run):
        return Run(parts[item.part])
    if isinstance(item, Transfer):
        return replace(item, tensors=tuple(keys[key] for key in item.tensors))
    return replace(
        item,
        source=keys.get(item.source, item.source),
        target=keys.get(item.target, item.target),
    )
