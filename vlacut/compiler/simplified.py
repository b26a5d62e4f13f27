"""Traces that are kept simplified: what `plan` reads, so that it simplifies a program once.

A trace in the cache is as the front end made it. Beside it, in a folder of its own, lies what
`simplify` makes of it, an entry like the trace's. Its sources are the trace's and the passes'.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vlacut.compiler.trace_entry import described, mark_used, read_entry, write_entry
from vlacut.compiler.trace_sources import Sources
from vlacut.errors import Progress
from vlacut.ir.annotation import Key
from vlacut.ir.pipeline import Pipeline, Timing
from vlacut.ir.program import Program
from vlacut.ir.storage import Held, maps_no_copy

SIMPLIFY = "simplify"  # the pass, as a pipeline without options has it
FOLDER = "simplified"  # of an entry of the cache

Keep = Callable[[Program], None]


@dataclass(frozen=True)
class Simplified:
    """What the cache has to do with a program being simplified.

    Attributes:
        keep: keeps the program once it is simplified; None if it is so already.
    """

    keep: Keep | None


SIMPLIFIED: Key[Simplified] = Key("simplified", "the trace cache")


def run_passes_once(program: Program, passes: Pipeline, progress: Progress) -> tuple[Timing, ...]:
    """Run a pipeline on a program, in place; what the cache has simplified is not simplified again.

    Raises what a pass raises.
    """
    known = SIMPLIFIED.find(program)
    SIMPLIFIED.drop(program)  # from here on, passes change the program
    if known is None or str(Pipeline(passes.passes[:1])) != SIMPLIFY:
        return passes.run(program, progress)
    if known.keep is None:
        before: tuple[Timing, ...] = (Timing(SIMPLIFY, 0.0),)
    else:
        before = Pipeline(passes.passes[:1]).run(program, progress)
        known.keep(program)
    return Pipeline(passes.passes[1:]).run(program, progress, before)


def simplify_ahead(program: Program, passes: Pipeline, progress: Progress) -> None:
    """Simplify a program, in place, if a pipeline begins with that: neither `run_passes_once` of
    the pipeline on it does so again, nor on a copy.

    Raises what the pass raises.
    """
    if str(Pipeline(passes.passes[:1])) == SIMPLIFY:
        run_passes_once(program, Pipeline(passes.passes[:1]), progress)
        SIMPLIFIED.put(program, Simplified(None))


def find_simplified(entry: Path, held: Held | None, module: str) -> Program | None:
    """What is kept beside the trace of an entry, marked as simplified; None if none of use is."""
    folder = entry / FOLDER
    if not folder.is_dir():
        return None
    found, _ = read_entry(folder, held, module)  # else the trace says what changed
    if found is not None:
        SIMPLIFIED.put(found, Simplified(None))
        mark_used(entry)
    return found


def keep_simplified(entry: Path, program: Program, made_by: Sources, held: frozenset[str]) -> None:
    """Keep a simplified program beside its trace; nothing if its weights would have to be copied.

    Args:
        entry: the folder of the trace.
        program: what `simplify` made of the trace.
        made_by: what took part in that.
        held: names of weights that are handed over, see `vlacut.ir.storage`.

    Raises OSError if it cannot be written; nothing half-written stays in its place.
    """
    if not maps_no_copy(program, held):
        return
    model, trace = described(entry)
    sources = Sources(
        {**trace.files, **made_by.files},
        {**trace.sizes, **made_by.sizes},
        sorted({*trace.installed, *made_by.installed}),
        trace.module,
    )
    staging = Path(tempfile.mkdtemp(prefix=f".{FOLDER}-", dir=entry))
    try:
        write_entry(staging, model, program, sources, held)
        shutil.rmtree(entry / FOLDER, ignore_errors=True)
        staging.rename(entry / FOLDER)
    except OSError:
        if not (entry / FOLDER).is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
