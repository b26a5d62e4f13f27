"""Tables of tensors: where in the archive their bytes are, and how they lie there."""

from __future__ import annotations

import re
from typing import Any

from vlacut.frontends.pt2.fields import BIG, device, element_type, weight_name
from vlacut.frontends.pt2.good import (
    NotGood,
    flag,
    integer,
    many,
    record,
    table,
    union,
    within,
    word,
)

_payloads = record(
    {
        "config": table(
            weight_name,
            record(
                {
                    "path_name": word(re.compile(r"(weight|tensor)_\d{1,9}", re.ASCII), "a tensor"),
                    "is_param": flag,
                    "use_pickle": flag,
                    "tensor_meta": record(
                        {
                            "dtype": element_type,
                            "sizes": many(union({"as_int": integer(0, BIG - 1)})),
                            "requires_grad": flag,
                            "device": device,
                            "strides": many(union({"as_int": integer(0, BIG - 1)})),
                            "storage_offset": union({"as_int": integer(0, BIG - 1)}),
                            "layout": integer(7, 7),
                        }
                    ),
                }
            ),
        )
    }
)


def good_payloads(value: Any) -> Any:
    """A table of plain tensors; NotGood naming what else is there."""
    made = within("weights", _payloads, value)
    for name, entry in made["config"].items():
        if entry["use_pickle"]:
            raise NotGood(f"{name} is a pickled object, which may run code when loaded")
    return made
