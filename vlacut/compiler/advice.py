"""Advice: what a user should know of a plan, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from vlacut.hardware import Device, Side
from vlacut.ir.annotation import EXAMPLE, UNPRICED
from vlacut.ir.program import Program
from vlacut.plans.instructions import Transfer, flatten
from vlacut.plans.plan import Plan
from vlacut.plans.pool import FUSED
from vlacut.runtime.network.estimate import shortest_side

_WORTH_SAYING = 0.1  # of a step


def advice(program: Program, edge: Device, plan: Plan, nbytes: Mapping[str, int]) -> Iterator[str]:
    """What a user should know of a plan, one line each.

    Args:
        program: the program that was planned, with its annotations.
        edge: the device of the plan's edge.
        plan: the program's plan.
        nbytes: of every weight of its parts, by name.
    """
    unpriced = UNPRICED.find(program)
    if unpriced:
        yield f"no cost rule, priced by their bytes: {', '.join(unpriced)}"
    held = {name for part in plan.parts if part.side is Side.EDGE for name in part.weights}
    over = sum(nbytes[name] for name in held) - edge.weight_bytes
    if over > 0:
        yield f"the edge's weights exceed what {edge.name} has for them by {over / 1e9:.4g} GB"
    for form in plan.pool.forms:
        if form.form == plan.pool.engines == FUSED and form.edge_bytes > edge.weight_bytes:
            yield (
                f"engines that hold their weights themselves would take {form.edge_bytes / 1e9:.4g}"
                f" GB, and {edge.name} has {edge.weight_bytes / 1e9:.4g} GB; segments take less"
            )
    if len(plan.variants) > 1 and plan.certificate.minimised != "latency":
        yield (
            f"the other variants of the pool are chosen for their latency, and so is the one that "
            f"runs; the least {plan.certificate.minimised} is that of {plan.variants[0].name} alone"
        )
    unmeasured = [one for one in plan.variants if one.action_error.measured is None]
    if unmeasured:
        names, why = ", ".join(one.name for one in unmeasured), unmeasured[0].action_error.why_not
        yield f"what codecs and precision of {names} do to the action is not measured: {why}"
    unseen = sorted(_coded_unseen(program, plan))
    if unseen:
        yield (
            f"pictures priced as photographs, for the model has no example of them: "
            f"{', '.join(unseen)}"
        )
    wait_s = _first_bursts_s(plan)
    if wait_s > _WORTH_SAYING * plan.variants[0].price.total_s:
        yield (
            f"a step on a link that idled takes up to {wait_s * 1e3:.3g} ms longer than planned "
            f"(TCP's slow start)"
        )


def _coded_unseen(program: Program, plan: Plan) -> set[str]:
    """Coded pictures that no example shows."""
    shown = EXAMPLE.find(program) or {}
    coded = {one.tensor for variant in plan.variants for one in variant.coded if one.codec.varies}
    return {name for name in coded if name not in shown or np.ptp(shown[name]) == 0}


def _first_bursts_s(plan: Plan) -> float:
    """What the first message of a step in either direction costs more after idling."""
    first: dict[Side, int] = {}
    for step in flatten(plan.variants[0].schedule):
        if isinstance(step, Transfer) and step.tensors:
            nbytes = plan.sent_bytes(plan.variants[0], step.coded)
            first.setdefault(step.source, nbytes)
    rates = {Side.EDGE: plan.link.up, Side.CLOUD: plan.link.down}
    return sum(plan.link.first_burst_s(nbytes, rates[side]) for side, nbytes in first.items())


def slow_samples(interval_s: float, plan: Plan) -> str:
    """A warning if a predictor's interval is too long for RoboECC's equation 3."""
    most = shortest_side(plan)
    if interval_s < most:
        return ""
    return (
        f"the predictor was trained on samples every {interval_s * 1e3:.3g} ms; RoboECC's equation "
        f"3 asks for less than {most * 1e3:.3g} ms, the least a side computes in a step"
    )
