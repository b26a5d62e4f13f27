"""Random cuts of random programs: legal schedules, no weight crosses, and the whole's numbers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from programs import cut_at_random, observation, random_program

from vlacut.hardware import Link
from vlacut.ir.dataflow import Dataflow
from vlacut.ir.program import Program
from vlacut.ir.verifier import verify
from vlacut.plan.plan import Loop, Move, Plan, Run, Transfer, Trips, Variant, flatten, taken
from vlacut.pricing.cost_graph import Side
from vlacut.pricing.price import Certificate, price
from vlacut.split.parts import Split, sides_of, split
from vlacut_backends.onnxruntime.build import OnnxRuntimeBuilder

LINK = Link(1e6, 2e6, 0.01)


def plan_of(flow: Dataflow, made: Split) -> Plan:
    program = flow.program
    counted = price(flow.cost_graph(), sides_of(flow), LINK)
    return Plan(
        program=program.name,
        edge="e",
        cloud="c",
        link=LINK,
        inputs=program.inputs,
        outputs={spec.name: f"{program.phases[-1].name}/{spec.name}" for spec in program.outputs},
        tensors=made.tensors,
        parts=made.parts,
        variants=(Variant("chosen", made.schedule, counted),),
        strategies=(),
        certificate=Certificate("latency", 1.0, 1.0, "min-cut"),
    )


def session(model: ir.Model) -> onnxruntime.InferenceSession:
    """As the back end makes them, from a model in memory and on one thread."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = 1
    data = ir.to_proto(model).SerializeToString()
    without = OnnxRuntimeBuilder().recipe()["without"].split()
    return onnxruntime.InferenceSession(data, options, disabled_optimizers=without)


def run_whole(program: Program, observed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The program's definition, straight from the docstring of `vlacut.ir.program`."""
    outputs: dict[str, np.ndarray] = {}
    for phase in program.phases:
        engine = session(phase.graph)
        fed = {name: outputs.get(name, observed.get(name)) for name in phase.input_names}
        for _ in range(phase.trips):
            made = dict(zip(phase.output_names, engine.run(None, fed), strict=True))
            fed |= {target: made[output] for output, target in phase.carried.items()}
        outputs |= made
    return {spec.name: outputs[spec.name] for spec in program.outputs}


class Walk:
    """Walks a schedule with both sides in one place, counting what crosses."""

    def __init__(self, made: Split, observed: dict[str, np.ndarray]) -> None:
        self.models = {
            part.name: (part, session(model))
            for part, model in zip(made.parts, made.models, strict=True)
        }
        self.held = {Side.EDGE: dict(observed), Side.CLOUD: {}}
        self.moved = {Side.EDGE: 0, Side.CLOUD: 0}
        for step in made.schedule:
            if isinstance(step, Loop):
                for trip in range(step.trips):
                    for inner in step.body:
                        if isinstance(inner, Run) or taken(inner.trips, trip, step.trips):
                            self.do(inner)
            else:
                self.do(step)

    def do(self, step: Run | Transfer | Move) -> None:
        if isinstance(step, Run):
            part, engine = self.models[step.part]
            held = self.held[part.side]
            made = engine.run(list(part.outputs), {key: held[key] for key in part.inputs})
            held.update(zip(part.outputs, made, strict=True))
        elif isinstance(step, Transfer):
            for key in step.tensors:
                array = self.held[step.source][key]
                self.held[step.source.other][key] = array
                self.moved[step.source] += array.nbytes
        else:
            for side in step.sides:
                self.held[side][step.target] = self.held[side][step.source]


@pytest.mark.parametrize("seed", range(150))
def test_a_cut_program_computes_what_the_whole_does(seed: int) -> None:
    program = random_program(seed, phases=1 + seed % 4)
    verify(program)
    flow = cut_at_random(program, seed)
    made = split(flow, LINK)
    plan = plan_of(flow, made)  # legal, or it could not be constructed
    observed = observation(program, seed)
    walk = Walk(made, observed)
    for name, expected in run_whole(program, observed).items():
        np.testing.assert_array_equal(walk.held[Side.EDGE][plan.outputs[name]], expected)


@pytest.mark.parametrize("seed", range(150))
def test_what_the_schedule_moves_is_what_the_price_counts(seed: int) -> None:
    program = random_program(seed, phases=1 + seed % 4)
    flow = cut_at_random(program, seed)
    made = split(flow, LINK)
    walk = Walk(made, observation(program))
    counted = price(flow.cost_graph(), sides_of(flow), LINK)
    assert (walk.moved[Side.EDGE], walk.moved[Side.CLOUD]) == (
        counted.bytes_up,
        counted.bytes_down,
    )


def test_no_weight_crosses() -> None:
    for seed in range(40):
        program = random_program(seed)
        made = split(cut_at_random(program, seed), LINK)
        weights = {
            f"{phase.name}/{value.name}"
            for phase in program.phases
            for node in phase.graph.graph
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
        made = split(cut_at_random(program, seed), LINK)
        for step in flatten(made.schedule):
            if isinstance(step, Transfer) and step.trips in sent:
                sent[step.trips] += 1
    assert min(sent.values()) > 0
