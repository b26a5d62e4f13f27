"""The table of the cost rules: by operator, what it costs and on which units it runs."""

from __future__ import annotations

from dataclasses import dataclass

from vlacut.cost import Cost
from vlacut_passes.cost import matrix, movement, pointwise
from vlacut_passes.cost.operator import Operator

_DOMAINS = ("", "ai.onnx")
_RULES = {**pointwise.RULES, **movement.RULES, **matrix.RULES}
_SAME_RATE = {"uint8": "int8", "uint4": "int4", "float8e5m2": "float8e4m3fn"}


@dataclass(frozen=True)
class Work:
    """What an operator does.

    Attributes:
        cost: of one execution.
        rate: element type whose peak rate it runs at.
        has_rule: whether a rule knows it; what none knows is priced as a copy of its operands.
    """

    cost: Cost
    rate: str
    has_rule: bool


def work(operator: Operator) -> Work:
    """Cost of an operator by its rule, and the rate it runs at.

    Matrix operators run at the rate of their element type; all others on the vector units, at the
    rate of float32, whatever they hold. Raises ValueError where an operator defies its schema.
    """
    kind = operator.node.op_type
    rule = _RULES.get(kind) if operator.node.domain in _DOMAINS else None
    if rule is None:
        return Work(movement.copy(operator), "float32", False)
    if rule is not matrix.RULES.get(kind):
        return Work(rule(operator), "float32", True)
    return Work(rule(operator), _SAME_RATE.get(operator.dtype, operator.dtype), True)


def known_operators() -> tuple[str, ...]:
    """Operators that have a rule, sorted."""
    return tuple(sorted({*_RULES, "If", "Loop", "Scan"}))
