"""What the back ends of a compile cannot run of a precision, found out before it is offered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from vlacut.backend import Foresees
from vlacut.compiler.backends import BackEnds
from vlacut.errors import BackendError
from vlacut.hardware import Side
from vlacut.plans.plan import Part
from vlacut.split.own_types import Types, in_own_types
from vlacut.split.parts import Split

# Of a split that is for nothing else, and keys that keep the program's types: why parts cannot run,
# by their names.
Refusals = Callable[[Split, Iterable[str]], Mapping[str, str]]


@dataclass(frozen=True)
class OfBackEnds:
    """The refusals of the back ends of both sides.

    Attributes:
        ends: the back ends.
        recipes: what their executors must know, by side.
        devices: that they are for.
        types: that a side lacks, each with the one that it computes in.
    """

    ends: BackEnds
    recipes: Mapping[str, Mapping[str, str]]
    devices: Mapping[Side, str]
    types: Mapping[Side, Types]

    def __call__(self, split: Split, fixed: Iterable[str]) -> Mapping[str, str]:
        """See `Refusals`. The models of the split are made ready in place, or in part."""
        own = in_own_types(split, self.types, fixed).split
        said = {
            part.name: self._said(part, model)
            for part, model in zip(own.parts, own.models, strict=True)
        }
        return {name: text for name, text in said.items() if text}

    def _said(self, part: Part, model: ir.Model) -> str:
        builder, recipe = self.ends.builders[part.side], self.recipes[part.side.value]
        where = f"{part.name} on {self.devices[part.side]}"
        try:
            if isinstance(builder, Foresees):
                builder.foresee(model, where)
            else:
                builder.prepare(model, where, recipe)
        except BackendError as error:
            return f"{self.ends.names[part.side]} cannot run {error}"
        for found in builder.findings(model, recipe):
            return (
                f"{self.ends.names[part.side]} cannot run {where}: {found} (take another device, "
                f"--backend or precision there, or --pin it to the other side)"
            )
        return ""
