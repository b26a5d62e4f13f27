"""Random programs as a user has them: a folder of ONNX files, and what ONNX Runtime makes of it.

Phases in and out of loops, on observations, on each other and on weights alone; every element type;
tensors of rank 0 to 3, of no elements and of one; weights that phases share; branches and loops in
subgraphs. What is drawn is a pure function of the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
SHAPES = ((), (1,), (3,), (0,), (2, 3), (1, 4), (2, 0), (2, 2, 3), (3, 3))
FLOATS = ("float32", "float64")
WHOLES = ("int32", "int64")
OTHERS = ("float16", "int8", "int16", "uint8", "uint16", "uint32", "uint64", "bool", "bfloat16")
_MOST = 64  # elements of a tensor: it may grow by Concat
_ONNX = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in (*FLOATS, *WHOLES)} | {
    **{name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in OTHERS[:-1]},
    "bfloat16": TensorProto.BFLOAT16,
}
_UNARY = ("Tanh", "Sigmoid", "Neg", "Abs", "Erf", "Floor")
_BINARY = ("Add", "Mul", "Sub", "Max", "Min")


@dataclass(frozen=True)
class Value:
    """A tensor of a graph: its name, element type and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many elements it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    def info(self, name: str = "") -> onnx.ValueInfoProto:
        """As ONNX has it."""
        return helper.make_tensor_value_info(name or self.name, _ONNX[self.dtype], self.shape)


@dataclass
class RandomPhase:
    """A phase: its graph, how often it runs, and what it carries."""

    name: str
    model: onnx.ModelProto
    inputs: list[Value]
    outputs: list[Value]
    trips: int
    carried: dict[str, str]


@dataclass
class RandomModel:
    """A program: its phases, in order, what is observed, and what comes of it."""

    phases: list[RandomPhase]
    observed: list[Value]
    action: list[Value]

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
            ]
        (folder / "program.toml").write_text("\n".join(lines) + "\n")
        return folder

    def observation(self, seed: int) -> dict[str, np.ndarray]:
        """An observation; bfloat16 as the runtime has it."""
        numbers = np.random.default_rng(seed)
        return {value.name: _drawn(numbers, value) for value in self.observed}

    @property
    def halves(self) -> bool:
        """Whether anything is rounded to 16 bits, which a back end may keep in 32."""
        return any(
            item.name == "to" and item.i in (TensorProto.FLOAT16, TensorProto.BFLOAT16)
            for phase in self.phases
            for node in phase.model.graph.node
            for item in node.attribute
        )

    def expected(self, observed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What ONNX Runtime makes of the files as they are, phase after phase."""
        made: dict[str, np.ndarray] = {}
        for phase in self.phases:
            session = _session(phase.model)
            fed = {
                value.name: made.get(value.name, observed.get(value.name)) for value in phase.inputs
            }
            names = [value.name for value in phase.outputs]
            for _ in range(phase.trips):
                outputs = _run(session, phase, fed, names)
                fed |= {into: outputs[output] for output, into in phase.carried.items()}
            made |= outputs
        return {value.name: made[value.name] for value in self.action}


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


def _run(
    session: onnxruntime.InferenceSession,
    phase: RandomPhase,
    fed: Mapping[str, np.ndarray],
    names: list[str],
) -> dict[str, np.ndarray]:
    return dict(zip(names, session.run(names, dict(fed)), strict=True))


def _drawn(numbers: np.random.Generator, value: Value) -> np.ndarray:
    drawn = numbers.standard_normal(value.shape)
    if value.dtype == "bool":
        return np.asarray(drawn > 0)
    if value.dtype.startswith("uint"):
        drawn = np.abs(drawn)
    if "int" in value.dtype:
        return np.asarray(np.round(drawn * 3), dtype=value.dtype)
    return np.asarray(drawn, dtype=value.dtype)


@dataclass
class _Graph:
    """A graph that grows; `known` are the tensors that its operators can read."""

    numbers: np.random.Generator
    prefix: str
    known: list[Value]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    told: list[onnx.ValueInfoProto] = field(default_factory=list)
    count: int = 0

    def pick(self, fits: Callable[[Value], bool] = lambda value: True) -> Value | None:
        """A tensor, rather a late one; None if none fits."""
        found = [value for value in self.known if fits(value)]
        if not found:
            return None
        late = found[-5:] if self.numbers.random() < 0.7 else found
        return late[int(self.numbers.integers(len(late)))]

    def add(
        self, kind: str, inputs: list[str], dtype: str, shape: tuple[int, ...], **attributes: object
    ) -> Value:
        """Append an operator; what it makes."""
        self.count += 1
        made = Value(f"{self.prefix}v{self.count}", dtype, shape)
        self.nodes.append(
            helper.make_node(kind, inputs, [made.name], f"{self.prefix}n{self.count}", **attributes)
        )
        self.known.append(made)
        return made

    def weight(self, array: np.ndarray, name: str = "") -> str:
        """A weight; equal names of phases are one."""
        name = name or f"{self.prefix}w{len(self.weights)}"
        self.weights[name] = array
        return name


def random_model(seed: int, most_phases: int = 4) -> RandomModel:
    """A program, by its seed."""
    numbers = np.random.default_rng(seed)
    observed = [
        Value(f"in{index}", _type(numbers), _shape(numbers))
        for index in range(int(numbers.integers(1, 4)))
    ]
    known, phases = list(observed), []
    for index in range(int(numbers.integers(1, most_phases + 1))):
        phase = _phase(numbers, index, known)
        phases.append(phase)
        known += phase.outputs
    used = {value.name for phase in phases for value in phase.inputs}
    observed = [value for value in observed if value.name in used]
    action = _action(numbers, phases)
    return RandomModel(phases, observed, action)


def _action(numbers: np.random.Generator, phases: list[RandomPhase]) -> list[Value]:
    """The last phase's first output, and some of the others."""
    first = phases[-1].outputs[0]
    others = [value for phase in phases for value in phase.outputs if value != first]
    return [first, *(value for value in others if numbers.random() < 0.2)]


def _type(numbers: np.random.Generator) -> str:
    if numbers.random() < 0.6:
        return str(numbers.choice(FLOATS, p=(0.9, 0.1)))
    kinds = (*WHOLES, *OTHERS[:-1])  # numpy has no bfloat16 to observe
    return str(numbers.choice(kinds))


def _shape(numbers: np.random.Generator) -> tuple[int, ...]:
    return SHAPES[int(numbers.integers(len(SHAPES)))]


def _phase(numbers: np.random.Generator, index: int, known: list[Value]) -> RandomPhase:
    alone = numbers.random() < 0.12  # on weights alone
    count = min(len(known), int(numbers.integers(1, 4)))
    read = [known[int(at)] for at in numbers.choice(len(known), count, replace=False)]
    graph = _Graph(numbers, f"p{index}", [] if alone else list(read))
    _weights(graph)
    for _ in range(int(numbers.integers(3, 12))):
        _operator(graph)
    trips = 1 if alone else int(numbers.choice((1, 1, 1, 2, 3)))
    outputs, carried = _outputs(graph, index, read, trips)
    used = {name for node in graph.nodes for name in _read(node)}
    inputs = [value for value in read if not alone and value.name in used]
    carried = {made: into for made, into in carried.items() if into in used}
    made = helper.make_graph(
        graph.nodes,
        f"p{index}",
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
    return RandomPhase(f"p{index}", model, inputs, outputs, trips, carried)


def _read(node: onnx.NodeProto) -> list[str]:
    """What an operator reads, in its subgraphs too."""
    inner = [each for item in node.attribute if item.HasField("g") for each in item.g.node]
    outputs = [each.name for item in node.attribute if item.HasField("g") for each in item.g.output]
    return [*node.input, *outputs, *(name for each in inner for name in _read(each))]


def _weights(graph: _Graph) -> None:
    """Some that all phases have, some of this one's; they can be read like other tensors."""
    for number, shape in enumerate(((3, 3), (4, 4), ())):
        array = np.asarray(np.random.default_rng(number).standard_normal(shape) / 2, np.float32)
        graph.known.append(Value(graph.weight(array, f"shared.{number}"), "float32", shape))
    value = Value("", _type(graph.numbers), _shape(graph.numbers))
    name = graph.weight(_drawn(graph.numbers, value))
    graph.known.append(Value(name, value.dtype, value.shape))


def _outputs(
    graph: _Graph, index: int, read: list[Value], trips: int
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
    for node in graph.nodes:
        _rename(node, renamed)
    return [Value(renamed[value.name], value.dtype, value.shape) for value in outputs], carried


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    for field_ in (node.input, node.output):
        for at, name in enumerate(field_):
            field_[at] = names.get(name, name)
    for item in node.attribute:
        if item.HasField("g"):
            for inner in item.g.node:
                _rename(inner, names)


def _operator(graph: _Graph) -> None:
    """One more operator, whatever fits what there is."""
    makers = (
        *(_unary, _unary, _binary, _binary, _product, _cast, _concat, _slice, _transpose),
        *(_reduce, _reshape, _logic, _where, _branch, _loop, _gather, _softmax),
    )
    makers[int(graph.numbers.integers(len(makers)))](graph)


def _unary(graph: _Graph) -> None:
    value = graph.pick(lambda value: value.dtype in FLOATS)
    if value is not None:
        kinds = _UNARY if value.dtype == "float32" else ("Neg", "Abs", "Tanh")
        graph.add(str(graph.numbers.choice(kinds)), [value.name], value.dtype, value.shape)


def _binary(graph: _Graph) -> None:
    one = graph.pick(lambda value: value.dtype in (*FLOATS, *WHOLES))
    if one is None:
        return
    other = graph.pick(lambda value: value.dtype == one.dtype and value.shape in (one.shape, ()))
    if other is not None:
        kind = str(graph.numbers.choice(_BINARY))
        graph.add(kind, [one.name, other.name], one.dtype, one.shape)


def _product(graph: _Graph) -> None:
    value = graph.pick(lambda value: value.dtype == "float32" and value.shape[-1:] in ((3,), (4,)))
    if value is None:
        return
    if graph.numbers.random() < 0.5:
        weight = f"shared.{value.shape[-1] - 3}"
        graph.add("MatMul", [value.name, weight], "float32", value.shape)
        return
    width = int(graph.numbers.integers(1, 5))
    array = np.asarray(graph.numbers.standard_normal((value.shape[-1], width)) / 2, np.float32)
    shape = (*value.shape[:-1], width)
    graph.add("MatMul", [value.name, graph.weight(array)], "float32", shape)


def _cast(graph: _Graph) -> None:
    value = graph.pick(lambda value: value.dtype not in ("bool",))
    if value is None:
        return
    if value.dtype in FLOATS:
        to = str(graph.numbers.choice(("float32", "float64", "float16", "bfloat16", "bool")))
    elif value.dtype in ("float16", "bfloat16"):
        to = "float32"
    else:
        to = str(graph.numbers.choice((*WHOLES, "float32", "int16", "uint64", "bool")))
    graph.add("Cast", [value.name], to, value.shape, to=_ONNX[to])


def _concat(graph: _Graph) -> None:
    value = graph.pick(lambda value: bool(value.shape) and 2 * value.size <= _MOST)
    if value is not None and value.dtype != "bfloat16":
        shape = (2 * value.shape[0], *value.shape[1:])
        graph.add("Concat", [value.name] * 2, value.dtype, shape, axis=0)


def _slice(graph: _Graph) -> None:
    value = graph.pick(lambda value: bool(value.shape) and value.dtype != "bfloat16")
    if value is None:
        return
    end = int(graph.numbers.integers(0, value.shape[0] + 1))
    bounds = [graph.weight(np.array([number], np.int64)) for number in (0, end, 0)]
    shape = (end, *value.shape[1:])
    graph.add("Slice", [value.name, *bounds], value.dtype, shape)


def _transpose(graph: _Graph) -> None:
    value = graph.pick(lambda value: len(value.shape) > 1 and value.dtype != "bfloat16")
    if value is not None:
        perm = [int(at) for at in graph.numbers.permutation(len(value.shape))]
        shape = tuple(value.shape[at] for at in perm)
        graph.add("Transpose", [value.name], value.dtype, shape, perm=perm)


def _reduce(graph: _Graph) -> None:
    value = graph.pick(lambda value: value.dtype in ("float32", "int32") and value.size > 0)
    if value is not None:
        kind = str(graph.numbers.choice(("ReduceSum", "ReduceMax", "ReduceMin")))
        graph.add(kind, [value.name], value.dtype, (), keepdims=0)


def _reshape(graph: _Graph) -> None:
    value = graph.pick(lambda value: value.dtype != "bfloat16")
    if value is None:
        return
    shape = [(1, *value.shape), (value.size,), (*value.shape, 1)][int(graph.numbers.integers(3))]
    target = graph.weight(np.array(shape, np.int64))
    graph.add("Reshape", [value.name, target], value.dtype, shape, allowzero=1)


def _logic(graph: _Graph) -> None:
    value = graph.pick(lambda value: value.dtype in ("float32", "int32", "int64"))
    if value is None:
        return
    kind = str(graph.numbers.choice(("Greater", "Equal", "Less")))
    other = graph.pick(
        lambda other: other.dtype == value.dtype and other.shape in (value.shape, ())
    )
    assert other is not None
    graph.add(kind, [value.name, other.name], "bool", value.shape)


def _where(graph: _Graph) -> None:
    chosen = graph.pick(lambda value: value.dtype == "bool")
    if chosen is None:
        return
    value = graph.pick(lambda value: value.dtype == "float32" and value.shape == chosen.shape)
    other = graph.pick(lambda value: value.dtype == "float32" and value.shape in ((), chosen.shape))
    if value is not None and other is not None:
        graph.add("Where", [chosen.name, value.name, other.name], "float32", chosen.shape)


def _gather(graph: _Graph) -> None:
    value = graph.pick(lambda value: value.shape[:1] in ((2,), (3,)) and value.dtype != "bfloat16")
    if value is not None:
        index = graph.weight(np.array([1, 0, -1], np.int64))
        graph.add("Gather", [value.name, index], value.dtype, (3, *value.shape[1:]), axis=0)


def _softmax(graph: _Graph) -> None:
    value = graph.pick(
        lambda value: value.dtype == "float32" and bool(value.shape) and value.size > 0
    )
    if value is not None:
        graph.add("Softmax", [value.name], "float32", value.shape, axis=-1)


def _scalar_of(graph: _Graph, value: Value) -> Value:
    total = graph.add("ReduceMax", [value.name], value.dtype, (), keepdims=0)
    return graph.add("Greater", [total.name, "shared.2"], "bool", ())


def _branch(graph: _Graph) -> None:
    """If, on a tensor's largest, with branches that read tensors from outside."""
    value = graph.pick(lambda value: value.dtype == "float32" and value.size > 0)
    if value is None:
        return
    condition = _scalar_of(graph, value)
    branches = {}
    for which, kind in (("then_branch", "Tanh"), ("else_branch", "Neg")):
        name = f"{graph.prefix}b{graph.count}_{which[:4]}"
        node = helper.make_node(kind, [value.name], [name], f"{name}_n")
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
        branches[which] = helper.make_graph([node], which, [], [info])
    graph.add("If", [condition.name], "float32", value.shape, **branches)


def _loop(graph: _Graph) -> None:
    """Loop, of a fixed number of trips, which reads a tensor from outside."""
    value = graph.pick(lambda value: value.dtype == "float32" and value.size > 0)
    if value is None:
        return
    name = f"{graph.prefix}l{graph.count}"
    body = helper.make_graph(
        [
            helper.make_node("Mul", [f"{name}_in", value.name], [f"{name}_mid"], f"{name}_mul"),
            helper.make_node("Tanh", [f"{name}_mid"], [f"{name}_out"], f"{name}_tanh"),
            helper.make_node("Identity", [f"{name}_on"], [f"{name}_go"], f"{name}_same"),
        ],
        f"{name}_body",
        [
            helper.make_tensor_value_info(f"{name}_at", TensorProto.INT64, ()),
            helper.make_tensor_value_info(f"{name}_on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info(f"{name}_in", TensorProto.FLOAT, value.shape),
        ],
        [
            helper.make_tensor_value_info(f"{name}_go", TensorProto.BOOL, ()),
            helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, value.shape),
        ],
    )
    trips = graph.weight(np.array(2, np.int64))
    on = graph.weight(np.array(True))
    made = graph.add("Loop", [trips, on, value.name], "float32", value.shape, body=body)
    graph.told.append(made.info())  # ONNX does not infer the shape of what a loop carries
