"""Dynamic dimensions of a graph's inputs: bound by the user, or refused with what to type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from vlacut.errors import ModelError

_IMAGE = (1, 3, 224, 224)


def take_minus_one(model: ir.Model) -> None:
    """Take a dimension of -1 for one that is not known, as the exporters mean that write it."""
    for value in (*model.graph.inputs, *_made(model)):
        if value.shape is not None and -1 in value.shape.dims:
            dims = (None if dim == -1 else dim for dim in value.shape.dims)
            value.shape = ir.Shape(dims)


def bind_shapes(model: ir.Model, shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Give the inputs of a model static shapes, in place; `shapes` gives those of some by name.

    A dimension that two inputs name alike is bound in both by binding it in one; `?`, `-1` and the
    like are no names, and each is a dimension of its own. Shapes written inside a graph whose
    inputs were dynamic are forgotten, to be inferred anew.

    Raises ModelError, starting with `where`, if a given shape is of no input or does not fit, or,
    listing them, if dimensions stay unbound.
    """
    inputs = {str(value.name): value for value in model.graph.inputs}
    dims: dict[str, int] = {}
    for name, given in shapes.items():
        if name not in inputs:
            raise ModelError(
                f"{where}: no input {name} to bind; its inputs: {', '.join(inputs) or 'none'}"
            )
        _bind(inputs[name], given, dims, where)
    dynamic = [value for value in inputs.values() if not _is_static(value)]
    for value in dynamic:
        _substitute(value, dims)
    unbound = [value for value in dynamic if not _is_static(value)]
    if unbound:
        raise ModelError(f"{where}: {_question(unbound)}")
    if dynamic or shapes:
        _forget_inner_shapes(model, dims)


def example_shape(value: ir.Value) -> str:
    """What a user could type to bind an input, e.g. `image=1x3x224x224`."""
    known = [dim if isinstance(dim, int) else None for dim in value.shape or (None,)]
    default = _IMAGE if len(known) == len(_IMAGE) else (1,) + (16,) * len(known)
    dims = [usual if dim is None else dim for dim, usual in zip(known, default, strict=False)]
    return f"{value.name}={'x'.join(map(str, dims))}"


def _bind(value: ir.Value, given: Sequence[int], dims: dict[str, int], where: str) -> None:
    declared = tuple(given) if value.shape is None else tuple(value.shape)
    fits = len(declared) == len(given) and all(dim >= 0 for dim in given)
    for old, new in zip(declared, given, strict=False):
        if isinstance(old, int):
            fits = fits and old == new
        elif _is_name(old.value) and dims.setdefault(str(old.value), new) != new:
            raise ModelError(
                f"{where}: input {value.name} binds dimension {old.value} to {new}, another input "
                f"binds it to {dims[str(old.value)]}"
            )
    if not fits:
        raise ModelError(
            f"{where}: input {value.name} is {_text(value)}, which "
            f"{'x'.join(map(str, given)) or 'a scalar'} does not fit"
        )
    value.shape = ir.Shape(given)


def _is_name(text: str | None) -> bool:
    """Whether exporters mean a dimension by it: they write `?`, `-1`, `*` and `None` for any."""
    return text is not None and text != "None" and any(map(str.isalpha, text))


def _substitute(value: ir.Value, dims: Mapping[str, int]) -> None:
    if value.shape is not None:
        value.shape = ir.Shape(
            [dim if isinstance(dim, int) else dims.get(str(dim.value), dim) for dim in value.shape]
        )


def _question(unbound: Sequence[ir.Value]) -> str:
    inputs = ", ".join(f"{value.name} {_text(value)}" for value in unbound)
    options = " ".join(f"--shape {example_shape(value)}" for value in unbound)
    return f"dimensions of its inputs are not bound: {inputs}; bind them, e.g. {options}"


def _text(value: ir.Value) -> str:
    if value.shape is None:
        return "of unknown rank"
    dims = (dim if isinstance(dim, int) else dim.value or "?" for dim in value.shape)
    return f"[{', '.join(map(str, dims))}]"


def _forget_inner_shapes(model: ir.Model, dims: Mapping[str, int]) -> None:
    """Drop what the file says of shapes inside, but for what the bound dimensions settle."""
    for value in _made(model):
        _substitute(value, dims)
        if not _is_static(value):
            value.shape = None


def _made(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from () if graph is model.graph else graph.inputs
        for node in graph:
            yield from node.outputs


def _is_static(value: ir.Value) -> bool:
    return value.shape is not None and value.shape.is_static()
