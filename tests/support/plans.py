"""Plans with times and sizes of one's choice: nothing of them runs."""

from __future__ import annotations

from dataclasses import replace

from support.deployments import deployment_with_alone
from vlacut.hardware import Link, Side
from vlacut.plans.instructions import runs
from vlacut.plans.plan import Plan
from vlacut.tensor import TensorSpec

LARGER = 1000


def routed_plan(edge_s: float = 0.3, cut_s: float = 0.06, link: Link | None = None) -> Plan:
    """Two variants: `cut`, which crosses a link of 2 MB/s and computes so long on both sides
    together, and `edge`, which computes so long on the edge alone.
    """
    plan = deployment_with_alone()[1]
    variants = []
    seconds: dict[str, float] = {}
    for name, whole, variant in zip(("cut", "edge"), (cut_s, edge_s), plan.variants, strict=True):
        counted = runs(variant.schedule)
        for part in counted:
            seconds[part] = whole / sum(counted.values())
        spent = dict.fromkeys(Side, 0.0)
        for part, count in counted.items():
            spent[plan.part[part].side] += seconds[part] * count
        price = replace(
            variant.price,
            edge_s=spent[Side.EDGE],
            cloud_s=spent[Side.CLOUD],
            bytes_up=variant.price.bytes_up * LARGER,
            bytes_down=variant.price.bytes_down * LARGER,
            overlap_s=0.0,
            parallel=(),
        )
        variants.append(replace(variant, name=name, price=price))
    return replace(
        plan,
        link=link or Link(2e6, 2e6, 0.005),
        inputs=tuple(map(_larger, plan.inputs)),
        tensors=tuple(map(_larger, plan.tensors)),
        parts=tuple(replace(part, seconds=seconds[part.name]) for part in plan.parts),
        variants=tuple(variants),
    )


def _larger(spec: TensorSpec) -> TensorSpec:
    return replace(spec, shape=(*spec.shape[:-1], spec.shape[-1] * LARGER))
