"""Random cuts of random programs: legal schedules, no weight crosses, and the whole's numbers."""

from __future__ import annotations

import numpy as np
import pytest
from support.cutting import LINK, Walk, plan_of, run_whole, sides_of
from support.programs import cut_at_random, observation, random_program

from vlacut.hardware import Side
from vlacut.ir.verifier import verify
from vlacut.plans.instructions import Transfer, Trips, flatten
from vlacut.pricing.price import price
from vlacut.split.parts import split


@pytest.mark.parametrize("seed", range(150))
def test_a_cut_program_computes_what_the_whole_does(seed: int) -> None:
    program = random_program(seed, phases=1 + seed % 4)
    verify(program)
    dataflow = cut_at_random(program, seed)
    made = split(dataflow)
    plan = plan_of(dataflow, made)  # legal, or it could not be constructed
    observed = observation(program, seed)
    walk = Walk(made, observed)
    for name, expected in run_whole(program, observed).items():
        np.testing.assert_array_equal(walk.held[Side.EDGE][plan.outputs[name]], expected)


@pytest.mark.parametrize("seed", range(150))
def test_what_the_schedule_moves_is_what_the_price_counts(seed: int) -> None:
    program = random_program(seed, phases=1 + seed % 4)
    dataflow = cut_at_random(program, seed)
    made = split(dataflow)
    walk = Walk(made, observation(program))
    counted = price(dataflow.cost_graph(), sides_of(dataflow), LINK)
    assert (walk.moved[Side.EDGE], walk.moved[Side.CLOUD]) == (
        counted.bytes_up,
        counted.bytes_down,
    )


def test_no_weight_crosses() -> None:
    for seed in range(40):
        program = random_program(seed)
        made = split(cut_at_random(program, seed))
        weights = {
            f"{phase.name}/{value.name}"
            for phase in program.phases
            for node in phase.model.graph
            if node.op_type == "Transpose"
            for value in node.outputs
        }
        crossing = {
            key
            for step in flatten(made.schedule)
            if isinstance(step, Transfer)
            for key in step.tensors
        }
        assert not crossing & weights


def test_what_is_read_once_is_sent_once() -> None:
    """The last value of a loop goes over in the last trip alone, a carried one in the others."""
    sent = {Trips.LAST: 0, Trips.BEFORE_LAST: 0}
    for seed in range(60):
        program = random_program(seed)
        made = split(cut_at_random(program, seed))
        for step in flatten(made.schedule):
            if isinstance(step, Transfer) and step.trips in sent:
                sent[step.trips] += 1
    assert min(sent.values()) > 0
