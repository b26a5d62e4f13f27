"""The table of the cost rules: the kernel that every operator is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vlacut.ir.places import written_place
from vlacut.pricing.roofline import Kernel
from vlacut_passes.cost import matrix, movement, pointwise
from vlacut_passes.cost.operator import Operator, Rule

_DOMAINS = ("", "ai.onnx")
_PLACE = "Where.place"  # that writes one place: no back end takes as long for it as for others
_RULES: Mapping[str, Rule] = {**pointwise.RULES, **movement.RULES, **matrix.RULES}


@dataclass(frozen=True)
class Work:
    """What an operator does.

    Attributes:
        kernel: one execution of it.
        has_rule: whether a rule knows it; other operators are priced as a copy of their operands.
    """

    kernel: Kernel
    has_rule: bool


def work(operator: Operator) -> Work:
    """The kernel of an operator, by its rule. Raises ValueError if it breaks its schema."""
    kind = operator.node.op_type
    if operator.node.domain not in _DOMAINS or kind not in _RULES:
        return Work(movement.copy(operator), False)
    name = _PLACE if written_place(operator.node) is not None else kind
    return Work(replace(_RULES[kind](operator), operator=name), True)
