"""Blocks from module paths.

A block is an entry of a list of modules, `language_model.model.layers.12`: a path up to an integer
component. A list counts if its entries are alike: at least two, and half of those that hold
weights, have the same weights (by module and shape), in two modules or more each. Of nested lists
the outermost that counts is taken, so that a stage of a Swin, whose entries differ, gives way to
the blocks within. If none counts strictly, the outermost counts whose entries have at least half of
their modules in common: a ResNet's first block of a stage, which alone has a projection.

What a parent module does between the modules of a block (a layer's arithmetic written out in the
model's own code) is of that block by dataflow, as in `repetition`.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx_ir as ir

from vlacut_passes.structure.repetition import complete
from vlacut_passes.structure.view import Spot, View

_SCOPES = "pkg.torch.onnx.name_scopes"
# What exporters write; the parser of Python, ten times slower, is for the rest.
_STRING = re.compile(r"'([^'\\]*)'")
_PLAIN = re.compile(r"\['[^'\\]*'(?:, '[^'\\]*')*\]")
Shape = tuple[int, ...]
Signature = frozenset[tuple[str, Shape]]


def module_path(node: ir.Node) -> str | None:
    """Dotted path of the module a node was traced in; None if nothing says.

    It is the last but one of the cumulative scopes that torch's exporter writes, or what stands
    before the last slash of `/model/layers.0/mlp/MatMul`, as the TorchScript exporter names nodes.
    """
    scopes = _literal(node.metadata_props.get(_SCOPES, ""))
    if scopes:
        return scopes[-2] if len(scopes) > 1 else ""
    name = node.name or ""
    if name.startswith("/"):
        return ".".join(part for part in name.split("/")[1:-1] if part)
    return None


def _literal(text: str) -> list[str]:
    """The strings of a list as Python writes it."""
    if _PLAIN.fullmatch(text):
        return _STRING.findall(text)
    try:
        found = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError):
        return []
    return [str(item) for item in found] if isinstance(found, list) else []


def paths(view: View) -> dict[ir.Node, str] | None:
    """Module path of every operator of a phase; None if fewer than half have one.

    One without takes that of an operator it reads, else of one that reads it.
    """
    known = {node: path for node in view.nodes if (path := module_path(node)) is not None}
    if 2 * len(known) < len(view.nodes) or not any(known.values()):
        return None
    for order, neighbours in (
        (view.nodes, view.producers),
        (reversed(view.nodes), view.consumers),
    ):
        for node in order:
            if node not in known:
                near = (known[item] for item in neighbours[node] if item in known)
                path = next(near, None)
                if path is not None:
                    known[node] = path
    return {node: known.get(node, "") for node in view.nodes}


def spots(views: Sequence[View], by_view: Sequence[Mapping[ir.Node, str]]) -> dict[ir.Node, Spot]:
    """Spot of every operator of phases whose modules are named.

    A module that goes by one path in two phases but reads other weights is another module: the
    later phase's paths then start with its name.
    """
    found: dict[ir.Node, str] = {}
    readers: dict[str, set[str]] = {}
    for view, of_node in zip(views, by_view, strict=True):
        own = _readers(view, of_node)
        prefix = f"{view.phase.name}." if _clash(own, readers) else ""
        for path, names in own.items():
            readers.setdefault(prefix + path, set()).update(names)
        found.update({node: prefix + path for node, path in of_node.items()})
    lists = _Lists(_signatures(views, found))
    spots = {node: lists.spot(path) for node, path in found.items()}
    for view in views:
        spots.update(_between(view, spots))
    return spots


def _between(view: View, spots: Mapping[ir.Node, Spot]) -> dict[ir.Node, Spot]:
    """Spots of the operators of parent modules that are within or between a run's blocks."""
    runs: dict[str, dict[Spot, list[ir.Node]]] = {}
    for node in view.nodes:
        spot = spots[node]
        if spot.run:
            blocks = runs.setdefault(spot.run, {})
            blocks.setdefault(Spot(spot.block, "", spot.run), []).append(node)
    found: dict[ir.Node, Spot] = {}
    for run, blocks in runs.items():
        parents = [
            node
            for node in view.nodes
            if not spots[node].run and node not in found and _is_parent(spots[node].block, run)
        ]
        if len(blocks) > 1 and parents:
            completed = complete(view, list(blocks.values()), parents)
            for spot, copy in zip(blocks, completed.copies, strict=True):
                found.update((node, spot) for node in copy if not spots[node].run)
    return found


def _is_parent(path: str, run: str) -> bool:
    return not path or run.startswith(f"{path}.")


def _readers(view: View, of_node: Mapping[ir.Node, str]) -> dict[str, set[str]]:
    """Names of the weights read in every module."""
    readers: dict[str, set[str]] = {}
    for node, weights in view.weights.items():
        readers.setdefault(of_node[node], set()).update(weight.name for weight in weights)
    return readers


def _clash(own: Mapping[str, set[str]], known: Mapping[str, set[str]]) -> bool:
    common = [path for path in own if path in known]
    same = sum(not own[path].isdisjoint(known[path]) for path in common)
    return 2 * same < len(common)


def _signatures(
    views: Iterable[View], path_of: Mapping[ir.Node, str]
) -> dict[str, dict[str, set[tuple[str, Shape]]]]:
    """By list and entry: modules below that read weights, and the shapes they read."""
    found: dict[str, dict[str, set[tuple[str, Shape]]]] = {}
    for view in views:
        for node, weights in view.weights.items():
            for prefix, index, rest in _levels(path_of[node]):
                entry = found.setdefault(prefix, {}).setdefault(index, set())
                entry.update((rest, weight.shape) for weight in weights)
    return found


def _levels(path: str) -> Iterator[tuple[str, str, str]]:
    """List, entry and rest at every integer component of a path, outermost first."""
    parts = path.split(".")
    for at, part in enumerate(parts):
        if part.isdigit():
            yield ".".join(parts[:at]), part, ".".join(parts[at + 1 :])


class _Lists:
    """The lists whose entries are blocks."""

    def __init__(self, signatures: Mapping[str, Mapping[str, set[tuple[str, Shape]]]]) -> None:
        frozen = {
            prefix: [frozenset(entry) for entry in entries.values()]
            for prefix, entries in signatures.items()
        }
        self._strict = {prefix for prefix, entries in frozen.items() if _alike(entries)}
        self._loose = {prefix for prefix, entries in frozen.items() if _akin(entries)}

    def spot(self, path: str) -> Spot:
        for counts in (self._strict, self._loose):
            for prefix, index, rest in _levels(path):
                if prefix in counts:
                    return Spot(f"{prefix}.{index}".lstrip("."), rest, prefix or ".")
        return Spot(path)


def _modules(entry: Signature) -> frozenset[str]:
    return frozenset(path for path, _ in entry)


def _alike(entries: Sequence[Signature]) -> bool:
    composite = [entry for entry in entries if len(_modules(entry)) > 1]
    count = Counter(composite).most_common(1)[0][1] if composite else 0
    return count >= 2 and 2 * count >= len(entries)


def _akin(entries: Sequence[Signature]) -> bool:
    modules = [_modules(entry) for entry in entries]
    return any(
        2 * len(one & other) >= len(one | other) and len(one & other) > 1
        for at, one in enumerate(modules)
        for other in modules[:at]
    )
