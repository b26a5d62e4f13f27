"""What a plan looks like: as tables, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console

from vlacut.cli.show.codecs import codecs_json, show_codecs
from vlacut.cli.show.noise import noise_json, show_noise
from vlacut.cli.show.output import milliseconds, rate, size, table
from vlacut.cli.show.pool import pool_json, show_pool
from vlacut.cli.show.precisions import precisions_json, show_precisions
from vlacut.cli.show.sequence import sequence_json
from vlacut.cli.show.states import show_states, states_json
from vlacut.cli.show.together import show_together
from vlacut.cli.show.ways import show_ways
from vlacut.hardware import Link, Side
from vlacut.plans.instructions import runs
from vlacut.plans.plan import Part, Plan
from vlacut.plans.ways import Way
from vlacut.pricing.dominance import Standing
from vlacut.pricing.price import Certificate, Price, Strategy
from vlacut.tensor.numerics import ROUNDING


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan's figures, see the README of the commands: a key says its unit in its name."""
    return {
        "model": plan.program,
        "edge": plan.edge,
        "cloud": plan.cloud,
        "link": link_json(plan.link),
        "chosen": plan.strategies[0].name,
        "strategies": [strategy_json(strategy) for strategy in plan.strategies],
        "parts": [part_json(part) for part in plan.parts],
        "sequence": sequence_json(plan, plan.variants[0]),
        "certificate": certificate_json(plan.certificate),
        "standings": [standing_json(standing, plan) for standing in plan.standings],
        "proof": proof(plan.certificate),
        "verdict": verdict(plan),
        "codecs": codecs_json(plan.variants[0]),
        "pool": pool_json(plan.exact),
        "precisions": precisions_json(plan),
        "left_out": list(plan.left_out),
        "states": states_json(plan),
        "noise": noise_json(plan),
        "memory": {**vars(plan.memory), "robots": plan.memory.robots},
    }


def link_json(link: Link) -> dict[str, float]:
    """The link: the wire's rates in bytes per second, headers of frames included; seconds of a
    round trip.
    """
    return {"up_bytes_per_s": link.wire_up, "down_bytes_per_s": link.wire_down, "rtt_s": link.rtt}


def certificate_json(found: Certificate) -> dict[str, Any]:
    """How good the best cut found is proven to be, in the unit of what was minimised: joules for
    the edge's energy, else milliseconds.
    """
    unit, scale = ("j", 1.0) if found.minimised == "energy" else ("ms", 1e3)
    return {
        "minimised": found.minimised,
        f"value_{unit}": found.value * scale,
        f"bound_{unit}": found.bound * scale,
        "proven": found.proven,
        "method": found.method,
        "simpler": found.simpler,
    }


def standing_json(standing: Standing, plan: Plan) -> dict[str, Any]:
    """The cut against everything on one machine; the bandwidth is the wire's, None if there is
    none.
    """
    return {
        "other": standing.other,
        "ratio": standing.ratio,
        "why_not": standing.why_not,
        "changes_at_bytes_per_s": standing.changes_at / plan.link.framing.share or None,
    }


def strategy_json(strategy: Strategy) -> dict[str, Any]:
    """A row of the report, per control step: milliseconds, bytes, joules."""
    price = strategy.price
    return {
        "name": strategy.name,
        "latency_ms": price.total_s * 1e3,
        "edge": {"weights_bytes": price.edge_weight_bytes, "time_ms": price.edge_s * 1e3},
        "cloud": {"weights_bytes": price.cloud_weight_bytes, "time_ms": price.cloud_s * 1e3},
        "codec_ms": price.codec_s * 1e3,
        "network_ms": _network(price) * 1e3,
        "uplink_ms": price.up_s * 1e3,
        "downlink_ms": price.down_s * 1e3,
        "propagation_ms": price.hop_s * 1e3,
        "overlap_ms": price.overlap_s * 1e3,
        "edge_j": price.edge_j or None,
        "bytes_up": price.bytes_up,
        "bytes_down": price.bytes_down,
        "crossings": price.crossings,
        "hops": price.hops,
        "feasible": strategy.feasible,
        "why_not": strategy.why_not,
    }


def part_json(part: Part) -> dict[str, Any]:
    """A part: where, what, and why there; milliseconds of one run, bytes, and the milliseconds that
    a control step would take more with it on the other side.
    """
    return {
        "name": part.name,
        "phase": part.phase,
        "side": part.side.value,
        "what": part.label,
        "time_ms": part.seconds * 1e3,
        "weights_bytes": part.weight_bytes,
        "saves_ms": part.saves_s * 1e3,
        "inputs": list(part.inputs),
        "outputs": list(part.outputs),
    }


def show_plan(
    console: Console, plan: Plan, notes: Sequence[str] = (), ways: Sequence[Way] = ()
) -> None:
    """Print the plan as tables that fit a terminal, below notes on how it came about."""
    console.print(f"[bold]{plan.program}[/bold] on {plan.edge} and {plan.cloud} over {plan.link}")
    for note in notes:
        console.print(note, style="dim")
    console.print()
    rows = [_strategy_row(strategy) for strategy in plan.strategies]
    columns = ("strategy", "ms", "edge", "cloud", "network", "up", "down", "hops")
    weights = ("edge holds", "cloud holds")
    counted = runs(plan.variants[0].schedule)
    parts = [_part_row(plan.part[name], plan, times) for name, times in counted.items()]
    on_reset = runs(plan.variants[0].first)
    parts += [_part_row(plan.part[name], plan, times, True) for name, times in on_reset.items()]
    headings = ("part", "side", "what", "why there", "runs", "ms", "weights")
    console.print(table("Parts, per control step", headings, parts, left=4))
    show_states(console, plan)
    show_noise(console, plan)
    show_codecs(console, plan)
    if len(plan.exact.variants) > 1:
        show_pool(console, plan.exact)
    show_precisions(console, plan)
    show_ways(console, ways)
    console.print(table("\nStrategies, per control step", (*columns, *weights), rows))
    for strategy in plan.strategies:
        if not strategy.feasible:
            console.print(f"* {strategy.name} is not allowed: {strategy.why_not}", style="dim")
    for strategy in plan.strategies:
        if strategy.price.codec_s:
            spent = milliseconds(strategy.price.codec_s)
            console.print(
                f"{strategy.name}: codecs and casts at a border take {spent} ms more", style="dim"
            )
        if strategy.price.overlap_s:
            saved = milliseconds(strategy.price.overlap_s)
            console.print(f"{strategy.name}: both sides at once save {saved} ms", style="dim")
    console.print(proof(plan.certificate))
    if plan.memory.robots is not None:
        console.print(_memory(plan))
    show_together(console, plan)
    console.print(f"\n{verdict(plan)}")


def _memory(plan: Plan) -> str:
    """How many robots the cloud's memory holds."""
    memory = plan.memory
    return (
        f"Memory of {plan.cloud}: {size(memory.device)}; engines hold {size(memory.weights)}, a "
        f"robot {size(memory.robot)}: {memory.robots} fit."
    )


def _strategy_row(strategy: Strategy) -> tuple[str, ...]:
    price = strategy.price
    return (
        strategy.name + ("" if strategy.feasible else " *"),
        *(milliseconds(s) for s in (price.total_s, price.edge_s, price.cloud_s, _network(price))),
        *(size(nbytes) for nbytes in (price.bytes_up, price.bytes_down)),
        str(price.hops),
        *(size(nbytes) for nbytes in (price.edge_weight_bytes, price.cloud_weight_bytes)),
    )


def _part_row(part: Part, plan: Plan, times: int, on_reset: bool = False) -> tuple[str, ...]:
    return (
        part.name,
        part.side.value,
        part.label,
        why(part, plan),
        f"{times} on reset" if on_reset else str(times),
        milliseconds(part.seconds * times),
        size(part.weight_bytes),
    )


def why(part: Part, plan: Plan) -> str:
    """Why a part is where it is: what a control step would lose with it on the other side."""
    there = "on the edge" if part.side is Side.CLOUD else "in the cloud"
    if part.saves_s < -ROUNDING * plan.variants[0].price.total_s:
        return f"{there} {milliseconds(-part.saves_s)} ms faster, but {_why_slower(part, plan)}"
    return f"{there} {milliseconds(max(part.saves_s, 0.0))} ms slower"


def _why_slower(part: Part, plan: Plan) -> str:
    """Why a plan does not take what is faster."""
    found = plan.certificate
    if part.name not in runs(plan.variants[0].schedule):
        return "for another bandwidth"
    if found.simpler:
        return "simpler so"
    if found.minimised != "latency" or plan.strategies[0].name != "optimal":
        return "not what was asked for"
    return "not allowed" if found.proven else "not allowed, or not found"


def proof(found: Certificate) -> str:
    """How good the best cut found is proven to be."""
    what = _LESS.get(found.minimised, "less energy of the edge")
    if found.proven:
        said = f"Proven: no cut within the limits has {what} than optimal ({found.method})."
    else:
        said = (
            f"Not proven: a cut within the limits may have {what} than optimal, by "
            f"{found.gap:.2%} at most ({found.method})."
        )
    return f"{said}\nTaken is simpler: {found.simpler}." if found.simpler else said


def verdict(plan: Plan) -> str:
    """One line: the cut against everything on one machine, why it was chosen where it is beaten,
    and the bandwidth at which that changes.
    """
    sides = {plan.part[name].side for name in runs(plan.variants[0].schedule)}
    itself, what = "", "The split is"
    if len(sides) == 1:
        side = sides.pop()
        where = "on the edge" if side is Side.EDGE else "in the cloud"
        coded = "-coded" if plan.variants[0].coded else ""
        itself, what = f"all-{side}{coded}", f"No split pays here: everything runs {where},"
    said = [_against(one, plan) for one in plan.standings if one.other != itself]
    return f"{_minimised(plan)}{what} {'; '.join(said)}."


def _minimised(plan: Plan) -> str:
    """What was minimised and is not latency, beside the same of everything on one machine."""
    goal = plan.certificate.minimised
    if goal not in GOALS:
        return ""
    what, amount = GOALS[goal]
    rows = {row.name: row for row in plan.strategies}
    price = plan.variants[0].price
    said = [f"{what}: {amount(price)} a control step"]
    if goal == "cloud-time" and price.cloud_s:
        said[0] += (
            f" of {milliseconds(price.total_s)} ms, so a GPU carries {_carried(price)} at most"
        )
    for standing in plan.standings:
        taken = f"{standing.other} takes {amount(rows[standing.other].price)}"
        why = f", but is not allowed: {standing.why_not}" if standing.why_not else ""
        said.append(taken + why)
    return f"{'; '.join(said)}. "


def _carried(price: Price) -> str:
    """How many robots a GPU carries whose steps follow one another, if it is never idle."""
    count = math.floor(price.total_s / price.cloud_s * (1 + 1e-9))
    return f"{count} robot" + ("" if count == 1 else "s")


GOALS: Mapping[str, tuple[str, Callable[[Price], str]]] = {
    "cloud-time": ("Compute in the cloud", lambda price: f"{milliseconds(price.cloud_s)} ms"),
    "energy": ("Energy of the edge", lambda price: f"{price.edge_j:.3g} J"),
}
_LESS = {"latency": "a lower latency", "cloud-time": "less compute in the cloud"}


def _against(standing: Standing, plan: Plan) -> str:
    ratio, other = standing.ratio, standing.other
    if abs(ratio - 1) < 0.005:
        return f"as fast as {other}"
    if ratio > 1:
        return f"{ratio:.2f} x faster than {other} ({_until(standing, plan, 'slower')})"
    why = (
        f"not allowed: {standing.why_not}"
        if standing.why_not
        else "allowed, but not what was asked for"
    )
    change = _until(standing, plan, "faster")
    return f"{1 / ratio:.2f} x slower than {other} ({change}), which is {why}"


def _until(standing: Standing, plan: Plan, otherwise: str) -> str:
    """From which bandwidth on it is otherwise."""
    at = standing.changes_at / plan.link.framing.share
    if not at:
        return "at any bandwidth"
    return f"{otherwise} {'below' if at < plan.link.wire_up else 'above'} {rate(at)}"


def _network(price: Price) -> float:
    return price.up_s + price.down_s + price.hop_s
