"""ActionFlow's rates, with the ages that it does not print."""

from __future__ import annotations

from collections.abc import Iterator

from price_pack import PUBLISHED_MS, priced, ways_of

from reproducing.machines import SHORT, decode, packed, prefill
from reproducing.tables import Kind, Make, Row, Table, missing, ms
from vlacut.ir.program import Program

PAPER = "ActionFlow"
SOURCE = "arXiv 2512.20276 and its code"
TOKENS = 7  # of an action, and requests in flight
PRINTED = {"orin": ("803", "313", "2.56"), "thor": ("664", "146", "4.53")}


def rates() -> Table:
    """Latency of a step alone and packed, rate, and age."""
    rows = [row for edge in PRINTED for row in _rows(edge)]
    note = (
        "Eager kernels on the devices that RoboECC's tables fit, 280 tokens of prompt. The gain "
        "in rate is bought with age: an action is of the request before six others, so the "
        "observation behind the action in force is (K + 1/2) packed steps old in the mean, "
        "against 1.5 steps alone. It would be younger only from a gain of about 5 on. The paper "
        "prints no ages; its own figures give those in its column. Their kernels fuse what eager "
        "ones do in steps: ours gain less."
    )
    return Table(PAPER, "rates", "OpenVLA on Orin and Thor, bfloat16", SOURCE, rows, note)


def _rows(edge: str) -> Iterator[Row]:
    alone, step, gain = PRINTED[edge]
    name, whole = SHORT[edge], prefill(edge) + (TOKENS - 1) * decode(edge)
    own = packed(edge, TOKENS - 1)
    yield Row(f"{name}, a step alone", f"{alone} ms", ms(whole), Kind.PRICED)
    yield Row(f"{name}, a packed step", f"{step} ms", ms(own), Kind.PRICED)
    yield Row(f"{name}, gain in rate", f"{gain} x", f"{whole / own:.2f} x", Kind.PRICED)
    for what, paper, ours in (
        ("age alone", 1.5 * float(alone), 1.5 * whole),
        ("age packed", (TOKENS + 0.5) * float(step), (TOKENS + 0.5) * own),
    ):
        yield Row(f"{name}, {what}", f"{paper:.0f} ms", f"{ours * 1e3:.0f} ms", Kind.PRICED)


STACKS = ("eager", "cuda-graph", "tensorrt")
IN_FLIGHT = f"{TOKENS} in flight"


def graph_rates() -> Table:
    """The same of the graph that `pack` makes, by the stack of engines, with drafts."""
    ways = ways_of("openvla", [TOKENS])
    rows = [row for device in PUBLISHED_MS for row in _stacks(ways, device)]
    note = (
        "The zoo's OpenVLA on shapes, rewritten by `in-flight`, `draft` and `pack`, all of it on "
        "the robot, by the model of the device and stack (`tools/price_pack.py`). The paper's "
        "column is its own baseline and its own kernels. Drafts are the way to the same packed "
        "product without age: a step on drafts of the last action, all of them right or wrong."
    )
    number = "rates, our graph"
    return Table(PAPER, number, "OpenVLA on Orin and Thor, by stack", SOURCE, rows, note)


def _stacks(ways: dict[str, Program], device: str) -> Iterator[Row]:
    published = dict(zip(("trip by trip", IN_FLIGHT), PUBLISHED_MS[device], strict=True))
    for stack in STACKS:
        found = {one.way: one for one in priced(ways, f"{device}+{stack}")}
        alone = found["trip by trip"]
        name = f"{device.removeprefix('jetson-agx-').capitalize()}, {stack}"
        for way, one in found.items():
            theirs = published.get(way)
            paper = "" if theirs is None else f"{theirs:.0f} ms, {1e3 / theirs:.2f}/s"
            said = f"{one.seconds * 1e3:.0f} ms, {1 / one.seconds:.2f}/s"
            gain = f"{alone.seconds / one.seconds:.2f} x, age {one.age_s * 1e3:.0f} ms"
            yield Row(f"{name}, {way}", paper, f"{said}, {gain}", Kind.PRICED)


TABLES: tuple[Make, ...] = (
    rates,
    graph_rates,
    missing(PAPER, "RTX 5090", "rate", SOURCE, "No profile of that device.",
            Row("alone, packed", "7.62, 19.45 a second", "", Kind.MISSING)),
    missing(PAPER, "Thor, INT4", "rate", SOURCE, "Eager kernels of four bits are not in the fit.",
            Row("alone, packed", "477.5, 113.9 ms", "", Kind.MISSING)),
    missing(PAPER, "a layer on Thor", "where the time of a layer goes", SOURCE,
            "Measured there; the price has no kernels of theirs.",
            Row("MLP, QKV, output, shift, attention", "53.5, 18.6, 8.7, 8.4, 5.9 %", "",
                Kind.MISSING)),
)  # fmt: skip
