"""`opt`: the graph after passes."""

from __future__ import annotations

import sys

import click

from vlacut.cli import completion
from vlacut.cli.building.planned import MODEL_HELP
from vlacut.cli.named import Named, named_options
from vlacut.cli.show.output import (
    json_option,
    print_json,
)
from vlacut.cli.show.progress import progress_bar
from vlacut.compiler.planning import parts_text
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.printer import print_program


@click.command("opt", help=f"Print the graph after passes, as stable text.{MODEL_HELP}")
@click.argument("model", shell_complete=completion.models)
@click.option(
    "-p",
    "--pipeline",
    default="",
    shell_complete=completion.pipelines,
    help='Passes: "simplify,annotate-cost,..."',
)
@click.option("--parts", is_flag=True, help="What partition's cuts come to: parts and schedules.")
@named_options
@json_option
def opt_command(
    named: Named,
    pipeline: str,
    parts: bool,
    as_json: bool,
) -> None:
    passes = parse_pipeline(pipeline)
    with progress_bar() as progress:
        program = named.traced(progress)
        timings = passes.run(program, progress)
    text = parts_text(program) if parts else print_program(program)
    if as_json:
        seconds = {timing.name: timing.seconds for timing in timings}
        print_json(
            {"model": program.name, "pipeline": str(passes), "pass_s": seconds, "text": text}
        )
    else:
        sys.stdout.write(text)
