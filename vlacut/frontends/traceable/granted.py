"""What a trace takes for granted of an observation, and the line of code that asked for it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

from vlacut.frontends.traceable.following import Followed, operations
from vlacut.tensor.premise import Premise

_ASSUMING = "/transformers/models/"  # code that looks for pictures that are padding


@dataclass(frozen=True)
class Known:
    """A value, and the inputs that it follows from.

    Attributes:
        value: for the example.
        inputs: their names; none for a constant of the code.
        how: it follows from them; None if no premise can say it.
        before: what it was, and how that followed, before something was written into it.
    """

    value: torch.Tensor
    inputs: frozenset[str] = frozenset()
    how: Followed | None = None
    before: tuple[tuple[Followed, torch.Tensor], ...] = ()


class Granted:
    """What a trace takes for granted: inputs that are fixed, and premises about others.

    Attributes:
        fixed: inputs of whole numbers or truths whose value the trace depends on, each with the
            `file:line` that asked first.
        assumed: the same of inputs of other numbers.
        counted: the same of inputs that a mask follows from which is true as often as in the
            example, wherever that is.
    """

    def __init__(self) -> None:
        self._numbers: set[str] = set()
        self.fixed: dict[str, str] = {}
        self.assumed: dict[str, str] = {}
        self.counted: dict[str, str] = {}
        self._premises: list[tuple[Followed, tuple[float, ...], bool, str]] = []
        self._names: Mapping[str, str] = {}
        self._given: dict[str, np.ndarray] = {}

    @property
    def premises(self) -> tuple[Premise, ...]:
        """What an observation must be, each once."""
        made = (
            Premise(operations(how, self._names), expected, counted, place)
            for how, expected, counted, place in self._premises
        )
        return tuple(dict.fromkeys(made))

    def give(self, name: str, value: torch.Tensor) -> None:
        """Note an input of the example; premises are held to it before they are added."""
        if value.is_floating_point() or value.is_complex():
            self._numbers.add(name)
        if value.dtype != torch.bfloat16:
            with _disable_current_modes():
                self._given[name] = value.detach().cpu().numpy().copy()

    def numeric(self, inputs: frozenset[str]) -> bool:
        """Whether any of these has real or complex numbers: nobody can give the same twice."""
        return bool(inputs & self._numbers)

    def rename(self, names: Mapping[str, str]) -> None:
        """Call inputs otherwise from now on; `names` has every one of them."""
        self._names = names
        for found in (self.fixed, self.assumed, self.counted):
            renamed = {
                ", ".join(names[one] for one in group.split(", ")): place
                for group, place in found.items()
            }
            found.clear()
            found.update(renamed)

    def may_fix(self, inputs: frozenset[str]) -> bool:
        """Fix the inputs; False where they are numbers, and the code is not known to allow it."""
        place = _asker() if inputs else ""
        if self.numeric(inputs) and _ASSUMING not in place:
            return False
        for name in sorted(inputs):
            known = self.assumed if name in self._numbers else self.fixed
            known.setdefault(name, _short(place))
        return True

    def assume(self, known: Known) -> bool:
        """Take for granted that a value is as it is for the example; whether that can be asked."""
        followed = known.before if known.how is None else ((known.how, known.value),)
        added = bool(followed)
        for how, value in followed:
            with _disable_current_modes():
                numbers = tuple(map(float, value.reshape(-1).tolist()))
            added &= self._take(how, numbers, counted=False)
        return added

    def count(self, known: Known) -> None:
        """Take for granted how often a mask is true; where that cannot be asked, fix its inputs."""
        with _disable_current_modes():
            count = float(known.value.count_nonzero())
        if known.how is None:
            said = self.assume(known)
        else:
            said = self._take(known.how, (count,), counted=True)
        if not said:
            self.may_fix(known.inputs)

    def count_places(self, known: Known) -> None:
        """The same of a mask whose places are asked for; a note tells of its inputs."""
        self.counted.setdefault(", ".join(sorted(known.inputs)), _short(_asker()))
        self.count(known)

    def _take(self, how: Followed, expected: tuple[float, ...], *, counted: bool) -> bool:
        """Add a premise, if it holds of the example; whether it was added."""
        premise = Premise(operations(how, {}), expected, counted, _short(_asker()))
        if premise.broken(self._given):
            return False
        self._premises.append((how, expected, counted, premise.place))
        return True


def _short(place: str) -> str:
    return "/".join(place.split("/")[-2:])


def _asker() -> str:
    """`file:line` of the innermost code that is neither torch's nor ours."""
    inside = ("/torch/", "/vlacut/frontends/")
    for frame in reversed(traceback.extract_stack()):
        if not any(part in frame.filename for part in inside):
            return f"{frame.filename}:{frame.lineno}"
    return "torch"
