"""A model at its full size on one device, by PyTorch, with random weights that are made there.

`gpu_check.py` calls it. Nothing is read from a disk: parts are planned on shapes alone, and the
executor's weights are drawn on the device, each once for all parts that read it. Times do not
depend on what the numbers are. What both sides compute runs on this device, one after the other;
what crosses goes through host memory, once each way, and no link.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from gpu_checking.drawn import Maker, without_content
from vlacut.compiler.batching import batched
from vlacut.compiler.planning import plan_program
from vlacut.compiler.target import Target
from vlacut.frontends.load import load_program
from vlacut.hardware import Side
from vlacut.ir.dataflow import Dataflow, cuts_of, trace_dataflow
from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Program
from vlacut.plans.batch import batch_name
from vlacut.plans.instructions import Instruction, Move, Run, Transfer, runs, steps
from vlacut.pricing.cut import Cut, make_cut
from vlacut.runtime.engines import OpenedEngines
from vlacut.split.observations import example_observation, initial_of
from vlacut.split.parts import Split, split_at
from vlacut.tensor.numerics import synthetic
from vlacut_passes.partitioning.limits import Limits
from vlacut_passes.partitioning.strategies import BACKBONE_IN_CLOUD, all_edge, program_cuts


@dataclass(frozen=True)
class FullSize:
    """A cut of a model, or one of its parts for several robots.

    Attributes:
        what: `whole`, `backbone-in-cloud`, or a part and how many robots run at once.
        ms: median of a step, or of a run of the part.
        engines_ms: of it, what engines took by the device's own clock; 0 without one.
        price_ms: that is predicted for the device, without a link.
        weights: bytes on the device.
    """

    what: str
    ms: float
    engines_ms: float
    price_ms: float
    weights: int


def full_size(
    model: str, precision: str, device: str, provider: str, robots: Sequence[int], many: int
) -> Iterator[FullSize]:
    """A model whole and in RoboECC's cut, then its parts of a loop for several robots at once.

    Args:
        model: a preset; of the full size, `openvla`.
        precision: of its products.
        device: the profile of what is measured.
        provider: `cuda` or `cpu`.
        robots: how many run at once.
        many: steps and runs that are timed.
    """
    program = without_content(load_program(model, {}))
    target = Target(device, device, "10GB/s,0us", precision=precision)
    plan_program(program, target)
    dataflow = trace_dataflow(program)
    with tempfile.TemporaryDirectory(prefix="vlacut-") as folder:
        maker = Maker(Path(folder), provider)
        for cut in cuts(dataflow):
            made = split_at(dataflow, (cut,), target.network())
            yield stepped(cut, made, program, maker, many)
        yield from together(made, maker, device, robots, many)


def cuts(dataflow: Dataflow) -> Iterator[Cut]:
    """Everything on one side, and the layers of the language model on the other."""
    graph, link = dataflow.cost_graph(), cuts_of(dataflow).asked.link
    yield make_cut(graph, all_edge(graph), link, name="whole", origin="strategy")
    for cut in program_cuts(dataflow, graph, link, Limits()):
        if cut.name == BACKBONE_IN_CLOUD:
            yield cut


def stepped(cut: Cut, made: Split, program: Program, maker: Maker, many: int) -> FullSize:
    """Steps of a cut."""
    pairs = zip(made.parts, made.models, strict=True)
    engines = {part.name: maker.engine(part.name, model) for part, model in pairs}
    inputs = {part.name: (part.side, part.inputs) for part in made.parts}
    with OpenedEngines(engines) as opened:
        held: dict[Side, dict[str, Any]] = {side: initial_of(program) for side in Side}
        held[Side.EDGE] |= example_observation(program)
        walk(made.firsts[0], inputs, opened, held)
        times = []
        for _ in range(many + 2):
            start = time.perf_counter()
            spent = walk(made.schedule, inputs, opened, held)
            times.append((time.perf_counter() - start, spent))
    price = cut.price.edge_s + cut.price.cloud_s
    step, device = (statistics.median(one) for one in zip(*times[2:], strict=True))
    return FullSize(cut.name, step * 1e3, device * 1e3, price * 1e3, maker.weights.nbytes)


def walk(
    schedule: Sequence[Instruction],
    inputs: Mapping[str, tuple[Side, Sequence[str]]],
    opened: Mapping[str, Any],
    held: Mapping[Side, dict[str, Any]],
) -> float:
    """What a schedule says, both sides here; seconds by the device's clock."""
    spent = 0
    for step in steps(schedule):
        instruction = step.instruction
        if isinstance(instruction, Run):
            side, keys = inputs[instruction.part]
            engine = opened[instruction.part]
            held[side].update(engine.run({key: held[side][key] for key in keys}))
            spent += getattr(engine, "device_ns", 0)
        elif isinstance(instruction, Transfer):
            source = instruction.source
            arrays = {key: held[source][key] for key in instruction.tensors}
            for key, tensor in arrays.items():
                there = tensor if isinstance(tensor, np.ndarray) else tensor.array()
                held[source.other][key] = there
        elif isinstance(instruction, Move):
            for side in instruction.sides:
                held[side][instruction.target] = held[side][instruction.source]
    return spent * 1e-9


def together(
    made: Split, maker: Maker, device: str, robots: Sequence[int], many: int
) -> Iterator[FullSize]:
    """The part that reads most weights in a step, trips of a loop counted, for several robots."""
    counted = runs(made.schedule)
    read = [part.weight_bytes * counted[part.name] for part in made.parts]
    index = read.index(max(read))
    name = made.parts[index].name
    part, model = replace(made.parts[index], side=Side.CLOUD), made.extracted[index]()
    sizes = tuple(size for size in robots if size > 1)
    (known,), models = batched((part,), (model,), sizes, device, device)
    found = {1: (made.extracted[index](), part.seconds)}
    for batch in known.batches:
        found[batch.robots] = models[batch_name(name, batch.robots)], batch.seconds
    for size, (each, seconds) in found.items():
        yield timed(f"{name}, {size} at once", maker, each, seconds, many)


def timed(what: str, maker: Maker, model: ir.Model, seconds: float, many: int) -> FullSize:
    """Runs of a model on numbers that stay on the device."""
    given = {spec.name: synthetic(spec) for spec in map(value_spec, model.graph.inputs)}
    engine = maker.engine(what.replace(", ", "-").replace(" ", "-"), model)
    with OpenedEngines({what: engine}) as opened:
        one = opened[what]
        take = getattr(one, "take", lambda _, array: array)
        given = {key: take(key, array) for key, array in given.items()}
        times = []
        for _ in range(many + 2):
            start = time.perf_counter()
            one.run(given)
            times.append((time.perf_counter() - start, getattr(one, "device_ns", 0) * 1e-9))
    run, spent = (statistics.median(each) for each in zip(*times[2:], strict=True))
    return FullSize(what, run * 1e3, spent * 1e3, seconds * 1e3, maker.weights.nbytes)
