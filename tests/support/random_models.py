"""Random programs as a user has them: a folder of ONNX files, and what ONNX Runtime makes of it.

Phases in and out of loops, on observations, on each other and on weights alone; state, and phases
that run on reset; every element type; tensors of rank 0 to 3, of no elements and of one; weights
that phases share, and names that mean another thing in each; branches and loops in subgraphs, see
`support.random_operators`. What is drawn is a pure function of the seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from support.random_operators import (
    FLOATS,
    OTHERS,
    SHAPES,
    WHOLES,
    Graph,
    Value,
    add_operator,
    drawn,
    reads,
)

OPSET = 20


@dataclass
class RandomPhase:
    """A phase: its graph, how often it runs, and what it carries."""

    name: str
    model: onnx.ModelProto
    inputs: list[Value]
    outputs: list[Value]
    trips: int
    carried: dict[str, str]
    when: str = "step"


@dataclass
class RandomState:
    """What a step leaves to the next: an output, the input it feeds, and what that is at first."""

    output: str
    input: Value
    initial: np.ndarray | None


@dataclass
class RandomModel:
    """A program: its phases, in order, what is observed, and what comes of it."""

    phases: list[RandomPhase]
    observed: list[Value]
    action: list[Value]
    states: list[RandomState] = field(default_factory=list)

    def write(self, folder: Path) -> Path:
        """The folder of the program."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"inputs = {_list(self.observed)}",
            f"outputs = {_list(self.action)}",
        ]
        for phase in self.phases:
            onnx.save(phase.model, folder / f"{phase.name}.onnx")
            carried = ", ".join(f'{made} = "{into}"' for made, into in phase.carried.items())
            lines += [
                "[[phase]]",
                f'name = "{phase.name}"',
                f'file = "{phase.name}.onnx"',
                f"trips = {phase.trips}",
                f"carried = {{ {carried} }}",
                f'when = "{phase.when}"',
            ]
        if self.states:
            lines.append("[state]")
        for index, state in enumerate(self.states):
            told = [f'input = "{state.input.name}"']
            if state.initial is not None:
                np.save(folder / f"{index}.npy", state.initial)
                told.append(f'initial = "{index}.npy"')
            lines.append(f"{state.output} = {{ {', '.join(told)} }}")
        (folder / "program.toml").write_text("\n".join(lines) + "\n")
        return folder

    def observation(self, seed: int) -> dict[str, np.ndarray]:
        """An observation; bfloat16 as the runtime has it."""
        numbers = np.random.default_rng(seed)
        return {value.name: drawn(numbers, value) for value in self.observed}

    @property
    def halves(self) -> bool:
        """Whether anything is rounded to 16 bits, which a back end may keep in 32."""
        return any(
            item.name == "to" and item.i in (TensorProto.FLOAT16, TensorProto.BFLOAT16)
            for phase in self.phases
            for node in _nodes(phase.model.graph)
            for item in node.attribute
        )

    def expected(self, observed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What ONNX Runtime makes of the files as they are, in the first step of an episode."""
        return Uncut(self).step(observed)


class Uncut:
    """The files of a program as they are, phase after phase, step after step."""

    def __init__(self, model: RandomModel) -> None:
        self._model = model
        self._sessions = {phase.name: _session(phase.model) for phase in model.phases}
        self._known: dict[str, np.ndarray] | None = None

    def reset(self) -> None:
        """Begin an episode."""
        self._known = None

    def step(self, observed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The action."""
        first = self._known is None
        known = dict(self._known if self._known is not None else self._first())
        for phase in self._model.phases:
            if first or phase.when == "step":
                known |= self._run(phase, {**observed, **known})
        left = {state.input.name: known[state.output] for state in self._model.states}
        held = [
            value.name
            for phase in self._model.phases
            if phase.when == "reset"
            for value in phase.outputs
        ]
        self._known = {**{name: known[name] for name in held}, **left}
        return {value.name: known[value.name] for value in self._model.action}

    def _first(self) -> dict[str, np.ndarray]:
        return {
            state.input.name: np.zeros(state.input.shape, state.input.dtype)
            if state.initial is None
            else state.initial
            for state in self._model.states
        }

    def _run(self, phase: RandomPhase, known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        fed = {value.name: known[value.name] for value in phase.inputs}
        names = [value.name for value in phase.outputs]
        outputs: dict[str, np.ndarray] = {}
        for _ in range(phase.trips):
            outputs = dict(zip(names, self._sessions[phase.name].run(names, fed), strict=True))
            fed |= {into: outputs[output] for output, into in phase.carried.items()}
        return outputs


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for item in node.attribute:
            if item.HasField("g"):
                yield from _nodes(item.g)


def _list(values: list[Value]) -> str:
    return "[" + ", ".join(f'"{value.name}"' for value in values) + "]"


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Packed products sum in another order, in the last bit; the back end leaves packing out, too.
    options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def random_model(seed: int, most_phases: int = 4, remembers: bool = True) -> RandomModel:
    """A program, by its seed; without state unless it may remember."""
    numbers = np.random.default_rng(seed)
    observed = [
        Value(f"in{index}", _type(numbers), _shape(numbers))
        for index in range(int(numbers.integers(1, 4)))
    ]
    apart = numbers.random() < 0.7  # else a name means another thing in every phase
    known, phases = list(observed), []
    states: list[Value] = []
    if remembers and numbers.random() < 0.3:
        phases.append(_phase(numbers, 9, known, "r", when="reset"))
        known += phases[0].outputs
    if remembers and numbers.random() < 0.4:
        states = _fed(numbers, phases)
        known += [value for value in states if value not in known]
    for index in range(int(numbers.integers(1, most_phases + 1))):
        phase = _phase(numbers, index, known, f"p{index}" if apart else "p", states=states)
        phases.append(phase)
        known = [
            value for value in known if value.name not in {made.name for made in phase.outputs}
        ]
        known += phase.outputs
    used = {value.name for phase in phases for value in phase.inputs}
    observed = [value for value in observed if value.name in used]
    return RandomModel(
        phases, observed, _action(numbers, phases), list(_states(numbers, phases, states))
    )


def _fed(numbers: np.random.Generator, phases: list[RandomPhase]) -> list[Value]:
    """Inputs that are state; where something runs on reset, its output may be one at first."""
    made = [
        Value(f"h{index}", _type(numbers), _shape(numbers))
        for index in range(int(numbers.integers(1, 4)))
    ]
    if phases and numbers.random() < 0.5:
        made.append(phases[0].outputs[0])
    return made


def _states(
    numbers: np.random.Generator, phases: list[RandomPhase], states: list[Value]
) -> Iterator[RandomState]:
    """Of the inputs that are read, what the latest phase that reads one leaves."""
    steps = [phase for phase in phases if phase.when == "step"]
    on_reset = {made.name for phase in phases if phase.when == "reset" for made in phase.outputs}
    for value in states:
        left = [f"{phase.name}_{value.name}" for phase in steps if value in phase.inputs]
        if left:
            drawn_first = value.name not in on_reset and numbers.random() < 0.5
            yield RandomState(left[-1], value, drawn(numbers, value) if drawn_first else None)


def _action(numbers: np.random.Generator, phases: list[RandomPhase]) -> list[Value]:
    """The last phase's first output, and some of the others."""
    first = phases[-1].outputs[0]
    steps = [phase for phase in phases if phase.when == "step"]
    latest = {value.name: value for phase in steps for value in phase.outputs}
    others = [value for value in latest.values() if value.name != first.name]
    return [first, *(value for value in others if numbers.random() < 0.4)]


def _type(numbers: np.random.Generator) -> str:
    if numbers.random() < 0.6:
        return str(numbers.choice(FLOATS, p=(0.9, 0.1)))
    kinds = (*WHOLES, *OTHERS[:-1])  # numpy has no bfloat16 to observe
    return str(numbers.choice(kinds))


def _shape(numbers: np.random.Generator) -> tuple[int, ...]:
    return SHAPES[int(numbers.integers(len(SHAPES)))]


def _phase(
    numbers: np.random.Generator,
    index: int,
    known: list[Value],
    prefix: str,
    when: str = "step",
    states: Sequence[Value] = (),
) -> RandomPhase:
    name = f"p{index}"
    alone = numbers.random() < 0.12  # on weights alone
    count = min(len(known), int(numbers.integers(1, 4)))
    read = [known[int(at)] for at in numbers.choice(len(known), count, replace=False)]
    if states and not alone and numbers.random() < 0.7:
        read += [value for value in states if value not in read and value in known][:1]
    if index and numbers.random() < 0.1:  # two phases make one name: the latest counts
        again = index - 1
        index = index if any(value.name.startswith(f"y{again}_") for value in read) else again
    graph = Graph(numbers, prefix, [] if alone else list(read))
    _weights(graph)
    for _ in range(int(numbers.integers(3, 12))):
        add_operator(graph)
    trips = 1 if alone else int(numbers.choice((1, 1, 1, 2, 3)))
    outputs, carried = _outputs(graph, index, read, trips)
    if not alone:
        outputs += [_left(graph, name, value) for value in states if value in read]
    used = {name for node in graph.nodes for name in reads(node)}
    inputs = [value for value in read if not alone and value.name in used]
    carried = {made: into for made, into in carried.items() if into in used}
    made = helper.make_graph(
        graph.nodes,
        name,
        [value.info() for value in inputs],
        [value.info() for value in outputs],
        [
            numpy_helper.from_array(graph.weights[name], name)
            for name in graph.weights
            if name in used
        ],
        value_info=graph.told,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    return RandomPhase(name, model, inputs, outputs, trips, carried, when)


def _left(graph: Graph, phase: str, state: Value) -> Value:
    """What a phase leaves of a state: bounded, so that numbers stay numbers over many steps."""
    alike = [one for one in graph.known if (one.dtype, one.shape) == (state.dtype, state.shape)]
    other = alike[int(graph.numbers.integers(len(alike)))].name
    if state.dtype in FLOATS:
        total = graph.add("Add", [state.name, other], state.dtype, state.shape)
        made = graph.add("Tanh", [total.name], state.dtype, state.shape)
    elif state.dtype in WHOLES:
        made = graph.add("Sub", [state.name, other], state.dtype, state.shape)
    elif state.dtype == "bool":
        made = graph.add("Xor", [state.name, other], state.dtype, state.shape)
    else:
        made = graph.add("Identity", [other], state.dtype, state.shape)
    name = f"{phase}_{state.name}"
    _rename_all(graph, {made.name: name})
    return Value(name, state.dtype, state.shape)


def _weights(graph: Graph) -> None:
    """Some that all phases have, some of this one's; they can be read like other tensors."""
    for number, shape in enumerate(((3, 3), (4, 4), ())):
        array = np.asarray(np.random.default_rng(number).standard_normal(shape) / 2, np.float32)
        graph.known.append(Value(graph.weight(array, f"shared.{number}"), "float32", shape))
    value = Value("", _type(graph.numbers), _shape(graph.numbers))
    name = graph.weight(drawn(graph.numbers, value))
    graph.known.append(Value(name, value.dtype, value.shape))


def _outputs(
    graph: Graph, index: int, read: list[Value], trips: int
) -> tuple[list[Value], dict[str, str]]:
    """What the phase makes, and what it carries: something of an input's type and shape."""
    carried: dict[str, str] = {}
    outputs: list[Value] = []
    if trips > 1:
        into = read[0]
        source = graph.pick(lambda value: (value.dtype, value.shape) == (into.dtype, into.shape))
        assert source is not None
        kind = "Tanh" if into.dtype in FLOATS else "Identity"
        outputs.append(graph.add(kind, [source.name], into.dtype, into.shape))
        carried[f"y{index}_0"] = into.name
    made = {name for node in graph.nodes for name in node.output}
    while len(outputs) < 1 + int(graph.numbers.random() < 0.4):
        last = graph.pick(lambda value: value.name in made)
        if last is None or last.dtype == "bfloat16":
            source = graph.pick(lambda value: value.dtype == "float32")
            assert source is not None
            last = graph.add("Neg", [source.name], "float32", source.shape)
        if last in outputs:
            last = graph.add("Identity", [last.name], last.dtype, last.shape)
        outputs.append(last)
    renamed = {}
    for number, value in enumerate(outputs):
        renamed[value.name] = f"y{index}_{number}"
    _rename_all(graph, renamed)
    return [Value(renamed[value.name], value.dtype, value.shape) for value in outputs], carried


def _rename_all(graph: Graph, names: Mapping[str, str]) -> None:
    for node in graph.nodes:
        _rename(node, names)
    graph.known = [
        Value(names.get(value.name, value.name), value.dtype, value.shape) for value in graph.known
    ]


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    for field_ in (node.input, node.output):
        for at, name in enumerate(field_):
            field_[at] = names.get(name, name)
    for item in node.attribute:
        if item.HasField("g"):
            for inner in item.g.node:
                _rename(inner, names)
