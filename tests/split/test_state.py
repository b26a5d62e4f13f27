"""Programs with state, cut anywhere: every action of an episode, and every byte of the price."""

from __future__ import annotations

import numpy as np
import pytest
from support.cutting import LINK, Reference, Walk, plan_of, sides_of
from support.programs import cut_at_random, observation, random_stateful

from vlacut.hardware import Side
from vlacut.plans.instructions import steps
from vlacut.pricing.price import price
from vlacut.split.parts import split


@pytest.mark.parametrize("seed", range(60))
def test_a_cut_program_remembers_as_the_uncut_one(seed: int) -> None:
    program = random_stateful(seed)
    dataflow = cut_at_random(program, seed)
    made = split(dataflow)
    plan = plan_of(dataflow, made)
    cost = price(dataflow.cost_graph(), sides_of(dataflow), LINK)
    reference = Reference(program)
    walk = Walk(made, {}, run=False)
    for number in range(6):
        observed = observation(program, number)
        first = number in (0, 4)
        if first:
            reference.reset()
            walk.held = {side: {} for side in Side}
            for state in program.state:
                for side in Side:
                    initial = state.first(program.state_spec(state))
                    walk.held[side][state.input] = initial
            walk.held[Side.EDGE] |= observed
            for step in steps(plan.variants[0].first):
                walk.do(step.instruction)
        else:  # nothing but state outlives a step
            for held in walk.held.values():
                for key in set(held) - plan.state_keys:
                    del held[key]
        walk.held[Side.EDGE] |= observed
        walk.moved = dict.fromkeys(Side, 0)
        for step in steps(made.schedule):
            walk.do(step.instruction)
        assert (walk.moved[Side.EDGE], walk.moved[Side.CLOUD]) == (cost.bytes_up, cost.bytes_down)
        for name, array in reference.step(observed).items():
            key = plan.outputs[name]
            np.testing.assert_array_equal(walk.held[Side.EDGE][key], array)
