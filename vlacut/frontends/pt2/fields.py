"""What stands in many places of a graph: names, sizes, element types, devices."""

from __future__ import annotations

import keyword
import re
from typing import Any

from vlacut.frontends.pt2.expressions import parse_expression
from vlacut.frontends.pt2.good import (
    NotGood,
    flag,
    integer,
    many,
    number,
    record,
    shown,
    union,
    word,
)

_LONGEST_NAME, _LONGEST_TEXT = 1024, 1 << 20
BIG = 2**63
_ON_CPU = ("cpu", "cuda", "xpu", "mps", "hpu", "npu")


def name(value: Any) -> str:
    """A name that becomes one of Python's. Raises NotGood if it may be more."""
    good = isinstance(value, str) and value.isascii() and value.isidentifier()
    if good and not keyword.iskeyword(value) and len(value) <= _LONGEST_NAME:
        return str(value)
    raise NotGood(f"{shown(value)} where a name should be: it may run code when loaded")


def text(value: Any) -> str:
    """A text of 2**20 characters at most. Raises NotGood if it is none."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise NotGood(f"{shown(value)} where a text should be")
    return value


def device(value: Any) -> dict[str, Any]:
    """Tensors of any device are read onto the processor; one on "meta" has no content.

    Raises NotGood if it is no device.
    """
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "meta":
        return {"type": "meta", "index": None}
    if kind in _ON_CPU:
        return {"type": "cpu", "index": None}
    raise NotGood(f"{shown(value)} where a device should be")


def expression(value: Any) -> Any:
    """An expression of sizes, as sympy's object. Raises NotGood if it is none, or may be more."""
    if not isinstance(value, str):
        raise NotGood(f"{shown(value)} where an expression should be")
    try:
        return parse_expression(value)
    except ValueError as error:
        raise NotGood(f"{shown(value)} {error}, so it may run code when loaded") from error


PLAIN_NAME = "a weight's name without quotes (another may run code)"
whole = integer(-BIG, 2 * BIG - 1)
weight_name = word(re.compile(r"[\w.:/ -]{1,1024}", re.ASCII), PLAIN_NAME)
tensor = record({"name": name})
hint = union({"as_int": whole, "as_bool": flag, "as_float": number})
sym = record({"expr_str": expression}, {"hint": hint})
sym_int = union({"as_expr": sym, "as_int": whole})
sym_float = union({"as_expr": sym, "as_float": number})
sym_bool = union({"as_expr": sym, "as_bool": flag})
size = union({"as_expr": sym, "as_int": integer(0, BIG - 1)})
TYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
    34: "uint32",
    35: "uint64",
}


def element_type(value: Any) -> int:
    """The number of an element type, see `TYPES`. Raises NotGood if it is none."""
    if type(value) is not int or value not in TYPES:
        raise NotGood(f"{shown(value)} where an element type should be")
    return value


tensor_meta = record(
    {
        "dtype": element_type,
        "sizes": many(size),
        "requires_grad": flag,
        "device": device,
        "strides": many(size),
        "storage_offset": size,
        "layout": integer(7, 7),  # strided: a plain tensor
    }
)
