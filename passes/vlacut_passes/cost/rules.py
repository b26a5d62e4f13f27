"""The table of the cost rules: by operator, what it costs and on which units it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vlacut.cost import Cost
from vlacut_passes.cost import matrix, movement, pointwise
from vlacut_passes.cost.operator import Operator, Rule

_DOMAINS = ("", "ai.onnx")
_VECTOR: Mapping[str, Rule] = {**pointwise.RULES, **movement.RULES}
_MATRIX: Mapping[str, Rule] = matrix.RULES
_KNOWN = frozenset(_VECTOR) | frozenset(_MATRIX)
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
    if operator.node.domain not in _DOMAINS or kind not in _KNOWN:
        return Work(movement.copy(operator), "float32", False)
    if kind in _VECTOR:
        return Work(_VECTOR[kind](operator), "float32", True)
    quantised = kind.startswith("QLinear") or kind.endswith("Integer")  # their scales are float
    dtype = operator.needed(0).dtype if quantised else operator.dtype
    rate = _SAME_RATE.get(dtype, dtype)
    return Work(_MATRIX[kind](operator), rate, True)


def known_operators() -> tuple[str, ...]:
    """Operators that have a rule, sorted."""
    return tuple(sorted(_KNOWN | {"If", "Loop", "Scan"}))
