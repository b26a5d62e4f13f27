"""A program cut, walked in one place, and run whole: what tests compare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime

from vlacut.hardware import Link, Side
from vlacut.ir.annotation import CUTS, EXAMPLE, SECONDS, Asked, Cuts, Seconds
from vlacut.ir.dataflow import Dataflow, cuts_of, trace_dataflow
from vlacut.ir.graphs import operators
from vlacut.ir.program import Program
from vlacut.ir.uses import key_of
from vlacut.plans.instructions import Move, Run, Transfer, steps
from vlacut.plans.plan import Plan, Variant
from vlacut.plans.pool import SEGMENTS, Pool
from vlacut.pricing.cut import Sides, make_cut
from vlacut.pricing.price import Certificate
from vlacut.split.parts import Split, plan_states, split
from vlacut_backends.onnxruntime.build import OnnxRuntimeBuilder

LINK = Link(1e6, 2e6, 0.01)
PROVEN = Certificate("latency", 1.0, 1.0, "min-cut")


def write_cuts(
    dataflow: Dataflow, *placements: Sequence[Side], link: Link = LINK, form: str = SEGMENTS
) -> Dataflow:
    """Cut a program so, the first one chosen, as `partition` and `alternatives` would leave it."""
    graph = dataflow.cost_graph()
    chosen, *others = (
        make_cut(graph, sides, link, name=f"v{number}", origin="test")
        for number, sides in enumerate(placements)
    )
    cuts = Cuts(
        asked=Asked(link=link),
        chosen=chosen,
        certificate=PROVEN,
        alternatives=tuple(others),
        pool=Pool(engines=form),
    )
    CUTS.put(dataflow.program, cuts)
    return dataflow


def all_on(dataflow: Dataflow, side: Side) -> Sides:
    """Every operator on one side."""
    return tuple(Side.EDGE if node is None else side for node in dataflow.nodes)


def sides_of(dataflow: Dataflow) -> Sides:
    """Of the chosen cut."""
    return cuts_of(dataflow).chosen.sides


def placements_of(dataflow: Dataflow) -> list[Sides]:
    """Of every variant."""
    return [cut.sides for cut in cuts_of(dataflow).variants]


def plan_of(dataflow: Dataflow, made: Split) -> Plan:
    program = dataflow.program
    cut = cuts_of(dataflow).chosen
    chosen = Variant("chosen", made.schedule, cut.price, cut.crossings, first=made.firsts[0])
    return Plan(
        program=program.name,
        edge="e",
        cloud="c",
        link=LINK,
        inputs=program.inputs,
        outputs={
            spec.name: key_of(program, program.output_source(spec.name)) for spec in program.outputs
        },
        tensors=made.tensors,
        parts=made.parts,
        variants=(chosen,),
        strategies=(),
        certificate=PROVEN,
        states=plan_states(dataflow),
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
        engine = session(phase.model)
        fed = {name: outputs.get(name, observed.get(name)) for name in phase.input_names}
        for _ in range(phase.trips):
            made = dict(zip(phase.output_names, engine.run(None, fed), strict=True))
            fed |= {target: made[output] for output, target in phase.carried.items()}
        outputs |= made
    return {spec.name: outputs[spec.name] for spec in program.outputs}


class Reference:
    """A program run step after step, in a plain loop: what a robot's actions must be."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.engines = {phase.name: session(phase.model) for phase in program.phases}
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self.state: dict[str, np.ndarray] | None = None

    def step(self, observed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The action; the docstring of `vlacut.ir.state` line by line."""
        program, first = self.program, self.state is None
        state = self.state
        if state is None:
            state = {one.input: one.first(program.state_spec(one)) for one in program.state}
        outputs: dict[str, np.ndarray] = {}
        for phase in program.phases:
            if phase.when == "reset" and not first:
                continue
            given = observed | (state if phase.when == "step" else {}) | outputs
            fed = {name: given[name] for name in phase.input_names}
            for _ in range(phase.trips):
                found = self.engines[phase.name].run(None, fed)
                made = dict(zip(phase.output_names, found, strict=True))
                fed |= {target: made[output] for output, target in phase.carried.items()}
            if phase.when == "reset":
                state = state | made
            outputs |= made
        stays = {name: array for name, array in state.items() if name not in self._fed()}
        self.state = stays | {one.input: outputs[one.output] for one in program.state}
        return {spec.name: outputs[spec.name] for spec in program.outputs}

    def _fed(self) -> set[str]:
        return {one.input for one in self.program.state}


class Walk:
    """Walks a schedule with both sides in one place, counting what crosses."""

    def __init__(self, made: Split, observed: dict[str, np.ndarray], run: bool = True) -> None:
        self.models = {
            part.name: (part, session(model))
            for part, model in zip(made.parts, made.models, strict=True)
        }
        self.held = {Side.EDGE: dict(observed), Side.CLOUD: {}}
        self.moved = {Side.EDGE: 0, Side.CLOUD: 0}
        for step in steps(made.schedule) if run else ():
            self.do(step.instruction)

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


def cut_at_random(
    program: Program, changes: int = 4, *others: dict[str, np.ndarray]
) -> list[list[np.ndarray]]:
    """The outputs, in order, of a random cut of a program of one phase, on its example and on
    `others`.

    Neighbours in order of execution are on two sides `changes` times, or as often as there are
    operators.
    """
    nodes = [node for phase in program.phases for node in operators(phase.model.graph)]
    count = min(changes, len(nodes))
    borders = set(np.random.default_rng(0).choice(len(nodes), count, replace=False))
    side, there = Side.EDGE, {}
    for index, node in enumerate(nodes):
        side = side.other if index in borders else side
        SECONDS.put(node, Seconds(1e-6, 1e-6))
        there[node] = side
    dataflow = trace_dataflow(program)
    sides = [Side.EDGE if node is None else there[node] for node in dataflow.nodes]
    made = split(write_cuts(dataflow, sides))
    walks = [Walk(made, observed) for observed in (EXAMPLE.get(program), *others)]
    names = [f"main/{spec.name}" for spec in program.outputs]
    return [[walk.held[Side.EDGE][name] for name in names] for walk in walks]
