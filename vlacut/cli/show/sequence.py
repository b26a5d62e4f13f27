"""What a control step does, one after the other: parts that run, tensors that cross."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from vlacut.plans.instructions import Run, Transfer, flatten, steps
from vlacut.plans.plan import Plan, Variant


def sequence_json(plan: Plan, variant: Variant) -> list[dict[str, Any]]:
    """Runs and transfers of a variant in the order of their first time, and how often each happens.

    `bytes` are of one time, in coded form. What only tells the cloud of a step has no tensors.
    """
    return list(_items(plan, variant))


def _items(plan: Plan, variant: Variant) -> Iterator[dict[str, Any]]:
    times = Counter(step.position for step in steps(variant.schedule))
    for position, item in enumerate(flatten(variant.schedule)):
        if isinstance(item, Run) and times[position]:
            yield {**_NOTHING, "part": item.part, "times": times[position]}
        elif isinstance(item, Transfer) and times[position]:
            yield {
                **_NOTHING,
                "from": item.source.value,
                "tensors": list(item.tensors),
                "bytes": plan.sent_bytes(variant, item.coded),
                "times": times[position],
                "later": item.later,
            }


_NOTHING: dict[str, Any] = {
    "part": "", "from": "", "tensors": [], "bytes": 0, "times": 0, "later": False,
}  # fmt: skip
