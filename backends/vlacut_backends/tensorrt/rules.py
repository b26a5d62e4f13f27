"""Rules of what a target cannot do, applied before TensorRT sees a part; each has its source.

A rule looks at one operator, or at the model, and yields what is wrong. A part must keep it for
every release in the recipe's range, so rules ask about the oldest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx
import onnx_ir as ir

from vlacut.backend import Finding
from vlacut.ir.graphs import dtype_name
from vlacut_backends.tensorrt.recipe import Recipe, parse_version
from vlacut_backends.tensorrt.support import TYPES, first_release, types_of

_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "Constant", "Identity"})
_DATA_DEPENDENT = frozenset({"NonZero", "Unique", "Compress", "NonMaxSuppression"})
_CONSTANT_INPUTS = {
    "CumSum": (1,),
    "TopK": (1,),
    "OneHot": (1,),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), (1,)),
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"), (1,)),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"), (1,)),
}
_ONE_OUTPUT = frozenset({"LayerNormalization", "MaxPool", "Dropout"})
_MOST_TOP = 3840
_MIXABLE = frozenset({"Cast", "CastLike", "QuantizeLinear", "DequantizeLinear", "Resize"})

NodeRule = Callable[[ir.Node, Recipe], Iterator[str]]


def operator(node: ir.Node, recipe: Recipe) -> Iterator[str]:
    """The parser has no such operator. Source: `vlacut_backends.tensorrt.support`."""
    if node.domain != "":
        yield f"is of domain {node.domain}, for which TensorRT needs a plugin"
    elif types_of(node.op_type, parse_version(recipe.oldest)) is None:
        first = first_release(node.op_type)
        since = f"has it from {first} on" if first else "has it in no release known here"
        yield f"is not in TensorRT {recipe.oldest}, which {since}"


def element_type(node: ir.Node, recipe: Recipe) -> Iterator[str]:
    """The GPU, or the release, has no such element type. Source: `support.TYPES`."""
    seen = dict.fromkeys(value.dtype for value in _values(node) if value.dtype is not None)
    for dtype in seen:
        name = dtype_name(dtype)
        if dtype not in TYPES:
            yield f"is of {name}, which TensorRT does not have; convert it"
            continue
        sm, release = TYPES[dtype]
        if recipe.sm < sm:
            here = f"{recipe.device} is sm_{recipe.sm}"
            yield f"is of {name}, which GPUs have from sm_{sm} on; {here}"
        if parse_version(recipe.oldest) < release:
            first = ".".join(map(str, release))
            here = f"the recipe begins at {recipe.oldest}"
            yield f"is of {name}, which TensorRT has from {first} on; {here}"


def operator_type(node: ir.Node, recipe: Recipe) -> Iterator[str]:
    """The operator is there, but not in this element type. Source: as for `operator`."""
    known = types_of(node.op_type, parse_version(recipe.oldest)) if node.domain == "" else None
    for value in _of_main_type(node) if known else ():
        if value.dtype is not None and value.dtype not in known:  # type: ignore[operator]
            text = ", ".join(sorted(dtype_name(dtype) for dtype in known or ()))
            read = f"reads {value.name} as {dtype_name(value.dtype)}"
            yield f"{read}; TensorRT {recipe.oldest} takes {text}"
            return


def mixed_types(node: ir.Node, recipe: Recipe) -> Iterator[str]:
    """Inputs that must agree do not: a strongly typed network casts nothing by itself.

    Source: TensorRT's documentation, "Strongly Typed Networks", and ONNX's own type variables.
    """
    by_variable: dict[str, ir.Value] = {}
    for value, variable in _inputs_by_variable(node):
        first = by_variable.setdefault(variable, value)
        if None in (first.dtype, value.dtype) or first.dtype == value.dtype:
            continue
        yield _disagree(first, value)
        return
    floats = [
        value
        for value in node.inputs
        if value is not None and value.dtype is not None and value.dtype.is_floating_point()
    ]
    if node.op_type not in _MIXABLE and any(v.dtype != floats[0].dtype for v in floats[1:]):
        other = next(value for value in floats if value.dtype != floats[0].dtype)
        yield _disagree(floats[0], other)


def data_dependent(node: ir.Node, recipe: Recipe) -> Iterator[str]:
    """The shape of what it makes depends on numbers, and every shape of a part is fixed."""
    if node.op_type in _DATA_DEPENDENT and node.domain == "":
        yield "makes a tensor whose shape depends on numbers; parts have fixed shapes"


def fixed_shape(node: ir.Node, recipe: Recipe) -> Iterator[str]:
    """A dimension is not known, and the recipe has no optimisation profile for it."""
    for value in node.outputs:
        if value.shape is not None and not value.shape.is_static():
            made = f"makes {value.name} of shape {value.shape}"
            yield f"{made}, which is not fixed; bind it with --shape"
            return


def constant_input(node: ir.Node, recipe: Recipe) -> Iterator[str]:
    """An input must be known when the engine is built. Source: operators.md, "Restrictions"."""
    for index in _CONSTANT_INPUTS.get(node.op_type, ()) if node.domain == "" else ():
        value = node.inputs[index] if len(node.inputs) > index else None
        if value is not None and not _is_constant(value):
            yield f"takes {value.name} from a computation; TensorRT needs a constant there"


def restriction(node: ir.Node, recipe: Recipe) -> Iterator[str]:
    """The operator is there, but not with these options. Source: operators.md, "Restrictions"."""
    if node.domain != "":
        return
    if node.op_type in _ONE_OUTPUT and any(value.uses() for value in node.outputs[1:]):
        yield "is read beyond its first output, the only one TensorRT makes"
    if node.op_type == "TopK" and (most := _number(node, 1)) is not None and most >= _MOST_TOP:
        yield f"asks for {most} elements; TensorRT sorts fewer than {_MOST_TOP}"
    if node.op_type == "ScatterND" and node.attributes.get_string("reduction", "none") != "none":
        yield "reduces; TensorRT only overwrites"
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and (_number(node, 2) or 0) != 0:
        yield "has a zero point; TensorRT quantises symmetrically"
    table = node.inputs[0].producer() if node.op_type == "Gather" and node.inputs[0] else None
    if table is not None and table.op_type == "DequantizeLinear":
        yield "reads rows of codes, of which TensorRT makes floats at every run, all of them"
    if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") == "cubic":
        yield "is cubic; TensorRT resizes nearest or linear"


def quantised(node: ir.Node, recipe: Recipe) -> Iterator[str]:
    """Small types exist between quantisation and its inverse alone. Source: operators.md, notes."""
    small = {ir.DataType.INT8, ir.DataType.INT4, ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT4E2M1}
    for value in node.inputs:
        if value is not None and value.dtype in small and node.op_type not in _QUANTIZERS:
            assert value.dtype is not None
            yield (
                f"reads {value.name} as {dtype_name(value.dtype)}; TensorRT computes on it only "
                f"behind a DequantizeLinear"
            )
            return


NODE_RULES: tuple[NodeRule, ...] = (
    operator,
    element_type,
    data_dependent,
    quantised,
    operator_type,
    mixed_types,
    constant_input,
    fixed_shape,
    restriction,
)


def broken_rules(model: ir.Model, recipe: Recipe) -> Iterator[Finding]:
    """What of a part the recipe's target cannot do, operator by operator, the first reason each."""
    given = model.graph.opset_imports.get("", 0)
    if given > recipe.opset:
        yield Finding(
            "opset",
            "the part",
            f"is of opset {given}; TensorRT {recipe.oldest} is known to read up to {recipe.opset}; "
            f"compile it for this device",
        )
    for node in model.graph.all_nodes():
        for rule in NODE_RULES:
            said = next(rule(node, recipe), None)
            if said is not None:
                yield Finding(rule.__name__.replace("_", "-"), f"{node.op_type} {node.name}", said)
                break


def _values(node: ir.Node) -> Iterator[ir.Value]:
    yield from (value for value in node.inputs if value is not None)
    yield from node.outputs


def _disagree(one: ir.Value, other: ir.Value) -> str:
    assert one.dtype is not None
    assert other.dtype is not None
    return (
        f"reads {one.name} as {dtype_name(one.dtype)} and {other.name} as "
        f"{dtype_name(other.dtype)}; cast one of them"
    )


def _inputs_by_variable(node: ir.Node) -> list[tuple[ir.Value, str]]:
    """Inputs with the name ONNX gives their type, where several may share one."""
    opset = node.graph.opset_imports.get("", 0) if isinstance(node.graph, ir.Graph) else 0
    if node.domain != "" or not onnx.defs.has(
        node.op_type, opset or onnx.defs.onnx_opset_version()
    ):
        return []
    schema = onnx.defs.get_schema(node.op_type, opset or onnx.defs.onnx_opset_version())
    formals = list(schema.inputs)
    if not formals:
        return []
    formals += [formals[-1]] * (len(node.inputs) - len(formals))  # the last may be variadic
    pairs = zip(node.inputs, formals, strict=False)
    return [(value, formal.type_str) for value, formal in pairs if value is not None]


def _of_main_type(node: ir.Node) -> list[ir.Value]:
    """Inputs of the type the table of operators means: the output's, else the first input's."""
    found = _inputs_by_variable(node)
    if not found or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return [value for value, _ in found[:1]]
    opset = node.graph.opset_imports.get("", 0) if isinstance(node.graph, ir.Graph) else 0
    schema = onnx.defs.get_schema(node.op_type, opset or onnx.defs.onnx_opset_version())
    made = schema.outputs[0].type_str if schema.outputs else ""
    variable = made if any(name == made for _, name in found) else found[0][1]
    return [value for value, name in found if name == variable]


def _is_constant(value: ir.Value) -> bool:
    maker = value.producer()
    return value.is_initializer() or (maker is not None and maker.op_type == "Constant")


def _number(node: ir.Node, index: int) -> int | None:
    """The one number that an input holds, if it is known and whole."""
    value = node.inputs[index] if len(node.inputs) > index else None
    tensor = value.const_value if value is not None else None
    if tensor is None or isinstance(tensor, ir.ExternalTensor) or tensor.size != 1:
        return None
    return int(tensor.numpy().astype("float32").item())
