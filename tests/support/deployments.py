"""Deployments to test the runtime with: plans, engines, and servers of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from support.cutting import all_on, plan_of, session, sides_of, write_cuts
from support.programs import cut_at_random, random_program
from vlacut.backend import Engine
from vlacut.hardware import Side
from vlacut.ir.dataflow import Dataflow, cuts_of, trace_dataflow
from vlacut.ir.program import Program
from vlacut.ir.uses import key_of
from vlacut.plans.instructions import Instruction, Loop, Run
from vlacut.plans.plan import Part, Plan, Variant
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.server import Server
from vlacut.split.own_types import in_own_types
from vlacut.split.parts import Split, plan_states, split

DIGEST = bytes(range(32))


class OrtEngine:
    def __init__(self, model: ir.Model, outputs: tuple[str, ...]) -> None:
        self._session = session(model)
        self._outputs = outputs

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = self._session.run(list(self._outputs), dict(inputs))
        return dict(zip(self._outputs, made, strict=True))


class Held:
    """An engine whose runs wait until they are let go."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.go = threading.Event()
        self.began = threading.Event()

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.began.set()
        assert self.go.wait(20)
        return self._engine.run(inputs)


Make = Callable[[Part, ir.Model], Any]


def in_memory(part: Part, model: ir.Model) -> OrtEngine:
    """An engine of ONNX Runtime without a file."""
    return OrtEngine(model, part.outputs)


def deployment(
    seed: int, phases: int = 3, make: Make = in_memory
) -> tuple[Program, Plan, dict[str, Any]]:
    program = random_program(seed, phases)
    return program, *deployed(program, seed, make)


def deployed(program: Program, seed: int, make: Make = in_memory) -> tuple[Plan, dict[str, Any]]:
    """A program cut at random: its plan, and engines of all parts."""
    dataflow = cut_at_random(program, seed)
    made = split(dataflow)
    return plan_of(dataflow, made), _engines(made, make)


def _engines(made: Split, make: Make) -> dict[str, Any]:
    return {
        part.name: make(part, model) for part, model in zip(made.parts, made.models, strict=True)
    }


def pool_deployment(
    program: Program,
    seed: int,
    variants: int = 3,
    alone: bool = False,
    make: Make = in_memory,
    types: Mapping[Side, Mapping[str, str]] | None = None,
) -> tuple[Plan, dict[str, Any]]:
    """A program cut at random in several ways; with `alone`, the last of them on the edge, and with
    `types` that a side computes in others.
    """
    dataflow = cut_at_random(program, seed)
    numbers = np.random.default_rng((seed, 11))
    placements = [sides_of(dataflow)]
    for _ in range(variants - 1 - alone):
        there = numbers.random(len(dataflow.nodes)) < numbers.random()
        sides = [Side.CLOUD if one else Side.EDGE for one in there.tolist()]
        placements.append((Side.EDGE, *sides[1:-1], Side.EDGE))
    if alone:
        placements.append(all_on(dataflow, Side.EDGE))
    write_cuts(dataflow, *placements)
    made = in_own_types(split(dataflow), types or {}, _fixed(dataflow)).split
    engines = _engines(made, make)
    found = tuple(
        Variant(f"v{index}", schedule, cut.price, first=first)
        for index, (schedule, first, cut) in enumerate(
            zip(made.schedules, made.firsts, cuts_of(dataflow).variants, strict=True)
        )
    )
    return replace(plan_of(dataflow, made), variants=found, kept_observations=4), engines


def _fixed(dataflow: Dataflow) -> set[str]:
    program = dataflow.program
    ends = {key_of(program, program.output_source(spec.name)) for spec in program.outputs}
    states = {key for one in plan_states(dataflow) for key in (one.key, one.source, one.reset)}
    return {spec.name for spec in program.inputs} | ends | states


def initial_of(program: Program) -> dict[str, np.ndarray]:
    """State at first, by key, as a bundle has it."""
    return {
        one.input: one.first(program.state_spec(one))
        for one in program.state
        if one.initial is not None and program.reset_source(one.input) is None
    }


def crossing_deployment(make: Make = in_memory) -> tuple[Program, Plan, dict[str, Any]]:
    """One with both sides at work and several crossings each way."""
    found = next(
        seed
        for seed in range(1000)
        if (price := deployment(seed)[1].variants[0].price).hops >= 4
        and price.bytes_up
        and price.bytes_down
    )
    return deployment(found, make=make)


@contextmanager
def served(
    plan: Plan, engines: Mapping[str, Engine], digest: bytes = DIGEST, **options: Any
) -> Iterator[Server]:
    offer = ready(plan, digest, engines, options.pop("initial", {}))
    server = Server([offer], **{"timeout": 2.0, **options})
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()


def deployment_with_alone() -> tuple[Program, Plan, dict[str, Any]]:
    """A crossing one that also has an all-edge variant."""
    program, plan, engines = crossing_deployment()
    dataflow = trace_dataflow(program)
    write_cuts(dataflow, all_on(dataflow, Side.EDGE))
    made = split(dataflow)
    for part, model in zip(made.parts, made.models, strict=True):
        engines[f"alone.{part.name}"] = OrtEngine(model, part.outputs)
    parts = [replace(part, name=f"alone.{part.name}") for part in made.parts]
    price = plan_of(dataflow, made).variants[0].price
    alone = Variant("all-edge", tuple(map(_alone, made.schedule)), price)
    specs = {spec.name: spec for spec in (*plan.tensors, *made.tensors)}
    both = replace(
        plan,
        tensors=tuple(specs.values()),
        parts=(*plan.parts, *parts),
        variants=(*plan.variants, alone),
    )
    return program, both, engines


def _alone(item: Instruction) -> Instruction:
    if isinstance(item, Loop):
        body = [Run(f"alone.{each.part}") if isinstance(each, Run) else each for each in item.body]
        return replace(item, body=tuple(body))
    return Run(f"alone.{item.part}") if isinstance(item, Run) else item


@contextmanager
def serving_thread(server: Server) -> Iterator[None]:
    """While entered, a server serves."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
