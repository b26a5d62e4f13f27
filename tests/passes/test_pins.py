"""Pins, private inputs and the certificate, as options of the pass."""

from __future__ import annotations

import pytest
from support.programs import looping_program

from vlacut.errors import InfeasibleError, InputError
from vlacut.hardware import Side
from vlacut.ir.annotation import CUTS
from vlacut.ir.dataflow import cuts_of, trace_dataflow
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program

COSTS = "simplify,annotate-structure,annotate-cost{edge=jetson-agx-orin cloud=a100},"


def cut(options: str) -> Program:
    program = looping_program()
    parse_pipeline(f"{COSTS}partition{{link=1GB/s,0ms {options}}}").run(program)
    return program


def sides(program: Program) -> dict[str, Side]:
    dataflow = trace_dataflow(program)
    pairs = zip(dataflow.nodes, cuts_of(dataflow).chosen.sides, strict=True)
    return {str(node.name): side for node, side in pairs if node is not None}


def names() -> list[str]:
    return list(sides(cut("")))


@pytest.mark.parametrize("side", Side)
def test_a_pin_is_kept(side: Side) -> None:
    for name in names():
        assert sides(cut(f"pins={name}={side}"))[name] is side


def test_all_is_pinned_by_one_pattern() -> None:
    assert set(sides(cut("pins=*=cloud")).values()) == {Side.CLOUD}


def test_what_is_private_stays_on_the_edge() -> None:
    program = looping_program()
    for spec in program.inputs:
        found = cut(f"private={spec.name} minimise=latency")
        reading = {
            str(node.name)
            for phase in found.phases
            for node in phase.model.graph
            for value in node.inputs
            if value is not None and value.is_graph_input() and value.name == spec.name
        }
        kept = sides(found)
        assert all(kept[name] is Side.EDGE for name in reading if name in kept)


def test_a_pin_against_what_is_private_is_refused() -> None:
    with pytest.raises(InfeasibleError, match="must be on the"):
        cut(f"pins=*=cloud private={looping_program().inputs[0].name}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("pins=nothing-like-it=edge", "matches no block and no operator"),
        ("pins=*", "does not parse"),
        ("pins=*=sea", "does not parse"),
        ("private=nobody", "has no 'nobody' to keep private"),
    ],
)
def test_what_means_nothing_is_refused(options: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        cut(options)


def test_a_pattern_that_matches_nothing_names_what_is_near() -> None:
    name = names()[0]
    with pytest.raises(InputError, match=f"near it: .*{name}"):
        cut(f"pins={name}x=edge")


def test_a_pin_that_no_limit_allows_is_named() -> None:
    """Of those that bind no fewer do; and where the limit alone cannot be kept, none is blamed."""
    free = CUTS.get(cut("private=state")).chosen.price.total_s * 1e6
    asked = f"deadline={1.01 * free:.3f}us private=image;state pins=node_action=edge"
    with pytest.raises(InfeasibleError, match=r"the control step: at least .*private image\n"):
        cut(asked)
    with pytest.raises(InfeasibleError, match=r"pin less\n"):
        cut("deadline=0.001us private=image")


def test_the_certificate_says_what_is_proven() -> None:
    latency = CUTS.get(cut("")).certificate
    assert (latency.minimised, latency.proven, latency.gap) == ("latency", True, 0.0)
    relaxed = CUTS.get(cut(f"minimise=cloud-time deadline={latency.value * 4e3:.9f}ms")).certificate
    assert relaxed.minimised == "cloud-time"
    assert relaxed.proven
    with pytest.raises(InfeasibleError, match="the control step: at least"):
        cut(f"deadline={latency.value * 0.5e3:.9f}ms")
