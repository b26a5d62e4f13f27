"""Dataflow of a program: which operator's value reaches which, across phases and trips.

Both the price of a cut and the split that carries it out are read off here, so that what is priced
is what will run. Operators that depend on weights alone are no tasks: `split` clones them into
every part that reads them, and no weight crosses the link.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.ir.annotation import CUTS, Cuts
from vlacut.ir.costing import cost_graph_of
from vlacut.ir.graphs import value_spec, weights_read
from vlacut.ir.program import Program
from vlacut.ir.state import State
from vlacut.ir.uses import Tracer, Use, live_tasks
from vlacut.pricing.cost_graph import CostGraph, When
from vlacut.tensor import TensorSpec


@dataclass(frozen=True)
class Dataflow:
    """A program as tasks and uses.

    Attributes:
        nodes: operator of every task; None for the observation (first) and the action (last).
        phases: index of every task's phase, as in `Task.phase`.
        uses: sorted by consumer.
        specs: of every key; their names are those in the graph.
    """

    program: Program
    nodes: tuple[ir.Node | None, ...]
    phases: tuple[int, ...]
    uses: tuple[Use, ...]
    specs: Mapping[str, TensorSpec]

    @cached_property
    def weights(self) -> Mapping[ir.Node, tuple[str, ...]]:
        """Names of the weights that every operator reads, see `graphs.weights_read`."""
        graphs = (phase.model.graph for phase in self.program.phases)
        return {node: names for graph in graphs for node, names in weights_read(graph).items()}

    @cached_property
    def readers(self) -> Mapping[str, Sequence[Use]]:
        """Uses by key, in the order in which keys are first read."""
        found: dict[str, list[Use]] = {}
        for use in self.uses:
            found.setdefault(use.key, []).append(use)
        return found

    def cost_graph(self) -> CostGraph:
        """A control step for pricing. Needs `annotate-cost`; raises PassError without it.

        What runs on reset takes no time in it, but its weights count. The graph is made once, so
        later annotations are not in it.
        """
        return self._costs

    @cached_property
    def _costs(self) -> CostGraph:
        return cost_graph_of(self, on_reset=False)

    def reset_graph(self) -> CostGraph | None:
        """The extra cost of the first step of an episode, on the same tasks; None for none."""
        return self._reset_costs

    @cached_property
    def _reset_costs(self) -> CostGraph | None:
        resets = any(phase.on_reset for phase in self.program.phases)
        return cost_graph_of(self, on_reset=True) if resets else None

    @cached_property
    def states(self) -> tuple[State, ...]:
        """The program's state that anything reads."""
        read = {use.target for use in self.uses if use.when in (When.NEXT, When.RESET)}
        return tuple(state for state in self.program.states if state.input in read)

    def happens_on_reset(self, use: Use) -> bool:
        """Whether a use happens on reset: by what runs then, or of what that makes."""
        phase = self.phases[use.consumer]
        consumer = phase < len(self.program.phases) and self.program.phases[phase].on_reset
        return consumer or use.when is When.RESET


def cuts_of(dataflow: Dataflow) -> Cuts:
    """The cuts that passes wrote on the program.

    Raises PassError if there are none, or the program changed since.
    """
    cuts = CUTS.get(dataflow.program)
    if any(len(cut.sides) != len(dataflow.nodes) for cut in cuts.variants):
        raise PassError(
            f"{dataflow.program.name}: its operators changed since it was cut; run partition again"
        )
    return cuts


def trace_dataflow(program: Program) -> Dataflow:
    """The dataflow of a verified program. What no action of an episode depends on is left out."""
    tracer = Tracer(program)
    uses = tuple(tracer.uses())
    live = live_tasks(uses, len(tracer.nodes) - 1)
    number = {task: index for index, task in enumerate(live)}
    kept = (
        Use(use.key, number[use.producer], number[use.consumer], use.when, use.target)
        for use in uses
        if use.consumer in number
    )
    return Dataflow(
        program,
        tuple(tracer.nodes[task] for task in live),
        tuple(tracer.phases[task] for task in live),
        tuple(sorted(kept, key=lambda use: (use.consumer, use.producer, use.key))),
        tracer.specs,
    )


def weights_of(program: Program) -> dict[str, int]:
    """Bytes of every distinct weight, by name."""
    return {
        name: value_spec(value).nbytes
        for phase in program.phases
        for name, value in phase.model.graph.initializers.items()
    }
