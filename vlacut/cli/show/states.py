"""What a plan remembers from one control step to the next: where, how much, and what crosses."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from vlacut.cli.show.output import milliseconds, size, table
from vlacut.hardware import Side
from vlacut.plans.instructions import Transfer, flatten
from vlacut.plans.plan import Plan, Variant
from vlacut.plans.state import PlanState


def states_json(plan: Plan) -> dict[str, Any]:
    """The states of the chosen cut in bytes, the rules by which sides come to agree, what the first
    step of an episode takes more in milliseconds, and the bytes that a change of variant moves.
    """
    chosen = plan.variants[0]
    return {
        "states": [
            {
                "name": state.name,
                "key": state.key,
                "bytes": plan.spec[state.key].nbytes,
                "read": [side.value for side in _reading(plan, state)],
                "held": [side.value for side in _holding(plan, state)],
                "crosses": _way(plan, chosen, state),
                "until_reset": not state.source,
            }
            for state in plan.states
        ],
        "copies": "edge" if plan.state_copies else "",
        "kept_observations": plan.kept_observations,
        "warming": plan.warming,
        "age_ms": plan.age_s * 1e3,
        "reset_ms": chosen.first_price.total_s * 1e3 if chosen.first_price else 0.0,
        "moves": [
            {"from": one.name, "to": other.name, "up": up, "down": down}
            for before, one in enumerate(plan.variants)
            for after, other in enumerate(plan.variants)
            for up, down in [plan.move_bytes(before, after)]
            if up or down
        ],
    }


def show_states(console: Console, plan: Plan) -> None:
    """Print the states of the chosen cut; nothing if there are none."""
    if not plan.states:
        return
    chosen = plan.variants[0]
    if plan.warming:
        console.print(_in_flight(plan))
        console.print(_rule(plan), style="dim")
        return
    rows = [
        (
            state.name,
            size(plan.spec[state.key].nbytes),
            " and ".join(side.value for side in _reading(plan, state)),
            " and ".join(side.value for side in _holding(plan, state)),
            _way(plan, chosen, state) or ("stays there" if state.source else "until reset"),
        )
        for state in plan.states
    ]
    columns = ("state", "bytes", "read on", "held on", "every step")
    console.print(table("\nState, from one control step to the next", columns, rows, left=1))
    if chosen.first_price is not None:
        spent = milliseconds(chosen.first_price.total_s)
        console.print(f"The first step of an episode takes {spent} ms more.", style="dim")
    console.print(_rule(plan), style="dim")


def _in_flight(plan: Plan) -> str:
    """What requests in flight come to: rate, latency and age, and what they hold."""
    step, many = plan.variants[0].price.total_s, plan.warming + 1
    held = sum(plan.spec[state.key].nbytes for state in plan.states)
    return (
        f"\n{many} requests in flight, {size(held)} of state: at most {1 / step:.3g} actions a "
        f"second, each {milliseconds(many * step)} ms after its observation.\n"
        f"The action in force is {milliseconds(plan.age_s)} ms old on average; the first "
        f"{plan.warming} steps of an episode have none."
    )


def _rule(plan: Plan) -> str:
    """What happens where the cloud lost state, as the manifest has it."""
    again = plan.kept_observations
    rules = ["sent again where the edge has a copy"]
    if again:
        rules.append(f"made again from up to {again} observations")
    rules.append("else reset")
    copies = "The edge holds all of it. " if plan.state_copies else ""
    return f"{copies}State that the cloud lost is {', '.join(rules)}."


def _reading(plan: Plan, state: PlanState) -> list[Side]:
    use = plan.state_uses[0]
    return [side for side in Side if state.key in use.reads[side]]


def _holding(plan: Plan, state: PlanState) -> list[Side]:
    use = plan.state_uses[0]
    return [side for side in Side if state.key in use.keeps[side] | use.first_keeps[side]]


def _way(plan: Plan, variant: Variant, state: PlanState) -> str:
    """The way that what a step leaves goes: `up`, `down`, or empty where it stays."""
    for item in flatten(variant.schedule):
        if isinstance(item, Transfer) and state.source in item.tensors:
            return "up" if item.source is Side.EDGE else "down"
    return ""
