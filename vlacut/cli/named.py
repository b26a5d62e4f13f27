"""MODEL, and the options that say what program is made of it: `Named`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, TypeVar, cast

import click

from vlacut.cli.options import cache_option
from vlacut.compiler.rolling import roll
from vlacut.compiler.trace_cache import TraceCache
from vlacut.compiler.tracing import traced_program
from vlacut.errors import Progress, watched
from vlacut.frontends.fixing import parse_fixed
from vlacut.frontends.load import OfCheckpoint
from vlacut.frontends.remember import AUTO, parse_state, remember
from vlacut.ir.program import Program
from vlacut.ir.rolling import parse_roll

F = TypeVar("F", bound=Callable[..., Any])
Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Named:
    """What a user calls MODEL, and the options of `named_options`."""

    model: str
    shapes: Shapes
    state: tuple[str, ...]
    rolls: str
    fixed: tuple[str, ...]
    cache: bool
    task: str = ""
    original: str = ""
    config: str = ""

    def traced(self, progress: Progress, simplified: bool = False) -> Program:
        """The program, by way of the cache if that is wanted.

        For a command that simplifies it first, it may be `simplified` already.
        """
        cache = TraceCache() if self.cache else None
        fixed = parse_fixed(self.fixed)
        of_checkpoint = OfCheckpoint(self.task, self.original, self.config)
        shapes = dict(self.shapes)
        progress("load", 0, 1)
        with watched(progress):
            plain = simplified and not self.state and not self.rolls
            program = traced_program(
                self.model, shapes, cache, note, fixed, of_checkpoint, simplified=plain
            )
        if self.state:
            pairs = parse_state(program, self.state)
            remember(program, pairs)
            if AUTO in self.state:
                said = (f"{output} -> {fed}" for output, fed in pairs.items())
                note(f"state: {', '.join(said)}")
        return roll(program, parse_roll(self.rolls), note) if self.rolls else program


def note(line: str) -> None:
    """Say a line that is neither a result nor a warning."""
    click.echo(f"note: {line}", err=True)


class _Shape(click.ParamType[tuple[str, tuple[int, ...]]]):
    """`NAME=1x3x224x224` as (name, dimensions)."""

    name = "name=dims"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """Parse, or fail with an example."""
        name, _, dims = str(value).rpartition("=")
        parts = dims.split("x") if dims else []
        if not name or not all(part.isdigit() for part in parts):
            self.fail(f"{value!r}: write NAME=DIMS, e.g. image=1x3x224x224", param, ctx)
        return name, tuple(int(part) for part in parts)


_OPTIONS = (
    click.option("--shape", "shapes", type=_Shape(), multiple=True, help="Bind a dynamic input."),
    click.option(
        "--fix",
        "fixed",
        multiple=True,
        metavar="NAME=VALUE",
        help="An input of an ONNX file becomes a constant: sr=16000.",
    ),
    click.option(
        "--roll",
        "rolls",
        default="",
        metavar="auto|TRIPS",
        help="A loop that was unrolled in the trace becomes a phase with trips.",
    ),
    click.option(
        "--state",
        multiple=True,
        metavar="OUTPUT=INPUT",
        help="State: an output of a step, an input of the next; auto: by their names.",
    ),
    click.option("--task", default="", help="The prompt of a checkpoint that reads one."),
    click.option(
        "--original",
        default="",
        metavar="PYTHON",
        help="A Python with LeRobot: lerobot:DIR is compared with its own policy.",
    ),
    click.option(
        "--config",
        default="",
        metavar="NAME|FILE.toml",
        help="The configuration that an openpi:DIR was trained by.",
    ),
)


def named_options(command: F) -> F:
    """Adds the fields of `Named` but its model; the command is given all of it, as `named`."""

    @wraps(command)
    def with_named(**given: Any) -> Any:
        named = Named(**{field.name: given.pop(field.name) for field in fields(Named)})
        return command(named=named, **given)

    added = cast(F, with_named)
    for option in reversed((cache_option, *_OPTIONS)):
        added = option(added)
    return added
