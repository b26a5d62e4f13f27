"""`explain`: what was made of a model, or why nothing was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from vlacut.cli import completion
from vlacut.cli.named import Named, named_options
from vlacut.cli.show.output import console, json_option, print_json, say_next, table, to_plan
from vlacut.cli.show.progress import progress_bar
from vlacut.errors import ModelError, Progress
from vlacut.frontends.explaining import Failure, failure_of
from vlacut.ir.annotation import FIXED, NOTES, UNPRICED
from vlacut.ir.graphs import operators, value_spec, weights_read
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Phase, Program
from vlacut.ir.rewriting import is_named_by_content

_SCOPES = "pkg.torch.onnx.name_scopes"
_DEEPEST = 3  # levels of the tree of modules
# Whether an operator has a rule for its cost hangs on no device; these are there.
_COSTS = "simplify,annotate-structure,annotate-cost{edge=jetson-agx-orin cloud=a100}"


@click.command("explain")
@click.argument("model", shell_complete=completion.models)
@named_options
@json_option
def explain_command(
    named: Named,
    as_json: bool,
) -> None:
    """Show what was traced of a model, or why not.

    If a line of it cannot be traced, that line is shown, and what usually helps. MODEL is
    file.py:function, or whatever plan takes.
    """
    try:
        with progress_bar() as progress:
            program = named.traced(progress)
            found = _explained(program, progress)
    except ModelError as error:
        failure = failure_of(error)
        error.details = {"line": failure.place, "cures": list(failure.cures)}
        if not as_json:
            _show_failure(failure)
        raise
    if as_json:
        print_json(found)
    else:
        _show(found)
        say_next(to_plan(named.model))


def _explained(program: Program, progress: Progress) -> dict[str, Any]:
    phases = [_phase(phase) for phase in program.phases]
    notes, fixed = NOTES.find(program) or (), FIXED.find(program) or {}
    modules = [dict(zip(_COLUMNS, row, strict=True)) for row in _modules(program)]
    parse_pipeline(_COSTS).run(program, progress)
    return {
        "model": program.name,
        "inputs": [str(spec) for spec in program.inputs],
        "outputs": [str(spec) for spec in program.outputs],
        "state": [f"{one.output or '(reset)'} -> {one.input}" for one in program.states],
        "phases": phases,
        "notes": list(notes),
        "fixed": {name: array.tolist() for name, array in fixed.items()},
        "unpriced": list(UNPRICED.find(program) or ()),
        "modules": modules,
    }


def _phase(phase: Phase) -> dict[str, Any]:
    graph = phase.model.graph
    return {
        "name": phase.name,
        "trips": phase.trips,
        "when": phase.when,
        "operators": len(operators(graph)),
        "inputs": [str(value_spec(value)) for value in graph.inputs],
        "outputs": [str(value_spec(value)) for value in graph.outputs],
        "carried": dict(phase.carried),
    }


_COLUMNS = ("phase", "module", "operators", "parameters")


def _modules(program: Program) -> Iterator[tuple[str, str, int, int]]:
    """The tree of modules of each phase, with what is in each, its children included."""
    for phase in program.phases:
        graph = phase.model.graph
        sizes = {
            name: 0 if is_named_by_content(value) else _elements(value)  # a constant of the code
            for name, value in graph.initializers.items()
        }
        count: dict[str, int] = {}
        weights: dict[str, set[str]] = {}
        for node, read in weights_read(graph).items():
            for path in _levels(node.metadata_props.get(_SCOPES, "")):
                count[path] = count.get(path, 0) + 1
                weights.setdefault(path, set()).update(read)
        for path in sorted(count):
            parameters = sum(sizes[name] for name in weights[path])
            yield phase.name, path, count[path], parameters


def _levels(scopes: str) -> Iterator[str]:
    """The modules that an operator is in, from the outermost on."""
    names = [part.strip(" '\"") for part in scopes.strip("[]").split(",")][:-1]
    innermost = next((name for name in reversed(names) if name), "")
    parts = innermost.split(".") if innermost else []
    yield "(all)"
    for depth in range(1, min(len(parts), _DEEPEST) + 1):
        yield ".".join(parts[:depth])


def _elements(value: Any) -> int:
    total = 1
    for dim in value_spec(value).shape:
        total *= dim
    return total


def _show(found: dict[str, Any]) -> None:
    out = console()
    out.print(f"[bold]{found['model']}[/bold]")
    for what in ("inputs", "outputs", "state"):
        for line in found[what]:
            out.print(f"  {what[:-1] if what != 'state' else what}  {line}", markup=False)
    for phase in found["phases"]:
        trips = f", {phase['trips']} trips" if phase["trips"] > 1 else ""
        when = ", on reset alone" if phase["when"] != "step" else ""
        out.print(
            f"\n[bold]phase {phase['name']}[/bold]: {phase['operators']} operators{trips}{when}"
        )
        for what in ("inputs", "outputs"):
            for line in phase[what]:
                out.print(f"  {what[:-1]}  {line}", markup=False)
        for made, fed in phase["carried"].items():
            out.print(f"  carried  {made} -> {fed}", markup=False)
    _list(out, "done to the model, and taken from the example", found["notes"])
    _list(out, "operators without a rule for their cost, priced by their bytes", found["unpriced"])
    rows = [tuple(map(str, row.values())) for row in found["modules"]]
    out.print("")
    out.print(table("Modules", _COLUMNS, rows, left=2))


def _list(out: Any, title: str, lines: list[str]) -> None:
    out.print(f"\n{title}: {'none' if not lines else ''}")
    for line in lines:
        out.print(f"  {line}", markup=False)


def _show_failure(failure: Failure) -> None:
    """The line, and the cures; the error itself is said as that of any command."""
    if failure.place:
        click.echo(f"the line: {failure.place}")
    click.echo("what usually helps:")
    for number, cure in enumerate(failure.cures, 1):
        click.echo(f"  {number}. {cure}")
