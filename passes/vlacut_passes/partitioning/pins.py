"""Where users want operators: pins, and inputs that must not leave the edge as they are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import onnx_ir as ir

from vlacut.errors import InfeasibleError, InputError, suggestion
from vlacut.hardware import Side
from vlacut.ir.annotation import PINNED, STRUCTURE
from vlacut.ir.dataflow import Dataflow
from vlacut.pricing.cost_graph import CostGraph

SEPARATOR = ";"


def pinned(graph: CostGraph, pins: Mapping[int, Side]) -> CostGraph:
    """The graph with these tasks pinned."""
    tasks = [
        replace(task, pinned=pins[index]) if index in pins else task
        for index, task in enumerate(graph.tasks)
    ]
    return replace(graph, tasks=tuple(tasks))


def find_pins(dataflow: Dataflow, pins: str, private: str) -> dict[int, Side]:
    """The tasks that users want on a side, and those that the precision of their side has there.

    Args:
        dataflow: gives the names. Needs `annotate-structure` for those of blocks.
        pins: `PATTERN=SIDE`, several of them separated by `;`. A pattern is matched as a shell
            does, against the names of blocks (`vision.3`), of places in them (`vision.3.attn.qkv`)
            and of operators.
        private: `INPUT` or `INPUT:PATTERN`, several of them separated by `;`; see `_private`.

    Raises InputError if a text does not parse, or a name or pattern matches nothing, naming those
    that are near; InfeasibleError if an operator would have to be on both sides.
    """
    sides: dict[int, tuple[Side, str]] = {}
    for text in split_items(pins):
        pattern, side = _pin(text)
        _put(dataflow, sides, _matches(dataflow, pattern), side, f"pin {text}")
    for task, node in enumerate(dataflow.nodes):
        found = PINNED.find(node) if node is not None else None
        if found is not None:
            _put(dataflow, sides, [task], found, "the precision of its side")
    for text in split_items(private):
        name, _, pattern = text.partition(":")
        _put(dataflow, sides, _private(dataflow, name, pattern), Side.EDGE, f"private {text}")
    return {task: side for task, (side, _) in sides.items()}


def split_items(text: str) -> list[str]:
    """The pins, or private inputs, of an option."""
    return [item.strip() for item in text.split(SEPARATOR) if item.strip()]


def _pin(text: str) -> tuple[str, Side]:
    pattern, _, side = text.rpartition("=")
    if not pattern or side not in {one.value for one in Side}:
        raise InputError(f"pin {text!r} does not parse; write PATTERN=edge or PATTERN=cloud")
    return pattern, Side(side)


def _put(
    dataflow: Dataflow,
    sides: dict[int, tuple[Side, str]],
    tasks: Iterable[int],
    side: Side,
    why: str,
) -> None:
    for task in tasks:
        other, known = sides.setdefault(task, (side, why))
        if other is not side:
            node = dataflow.nodes[task]
            raise InfeasibleError(
                f"{node.name if node else task} must be on the {other} by {known}, and on the "
                f"{side} by {why}; drop one of the two"
            )


def _matches(dataflow: Dataflow, pattern: str) -> list[int]:
    """Tasks that a pattern matches."""
    tasks = [
        task
        for task, node in enumerate(dataflow.nodes)
        if node is not None and any(fnmatchcase(name, pattern) for name in _names(node))
    ]
    if not tasks:
        known = {name: None for node in dataflow.nodes if node is not None for name in _names(node)}
        raise InputError(f"{pattern!r} matches no block and no operator{_near(pattern, known)}")
    return tasks


def _names(node: ir.Node) -> Iterator[str]:
    yield str(node.name)
    structure = STRUCTURE.find(node)
    if structure is not None:
        yield structure.block
        if structure.place:
            yield f"{structure.block}.{structure.place}"


def _near(pattern: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(pattern.replace("*", ""), list(known), n=3, cutoff=0.4)
    return f"; near it: {', '.join(near)}" if near else ""


def _private(dataflow: Dataflow, name: str, pattern: str) -> list[int]:
    """Tasks that must be on the edge for an input to stay there.

    The input is private, and so is what an operator makes that reads something private; but what
    is made in a block that the pattern matches is private inside of that block only. Every operator
    that reads something private is on the edge.
    """
    names = [spec.name for spec in dataflow.program.inputs]
    if name not in names:
        raise InputError(
            f"the observation has no {name!r} to keep private; {suggestion(name, names)}"
        )
    blocks: dict[int, str] = {}
    for task in _matches(dataflow, pattern) if pattern else ():
        node = dataflow.nodes[task]
        structure = STRUCTURE.find(node) if node is not None else None
        blocks[task] = structure.block if structure else ""
    readers: dict[int, list[int]] = {}
    for use in dataflow.uses:
        readers.setdefault(use.producer, []).append(use.consumer)
    stack = sorted({use.consumer for use in dataflow.uses if use.key == name})
    kept = set(stack)
    while stack:
        task = stack.pop()
        inside = blocks.get(task)
        for reader in readers.get(task, ()):
            leaves = inside is not None and blocks.get(reader) != inside
            if not leaves and reader not in kept:
                kept.add(reader)
                stack.append(reader)
    return _operators(dataflow, kept)


def _operators(dataflow: Dataflow, tasks: Iterable[int]) -> list[int]:
    nodes: Sequence[ir.Node | None] = dataflow.nodes
    return sorted(task for task in tasks if nodes[task] is not None)
