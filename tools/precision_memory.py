"""What models take on a robot in each precision: bytes of weights, and memory of a process.

    python tools/precision_memory.py openvla:tiny pi0:tiny smolvla:tiny
    python tools/precision_memory.py smolvla --weights FOLDER

A model is compiled once as it is and once in each precision, all of it on the edge, rounded to the
nearest, for what is rounded how changes no size. A process of its own then loads a bundle's engines
and runs each once. Printed are the weights in the bundle, and by how much the process grew:
anonymous memory, and pages of files, which other processes that map them share (proportional set
size, so that a page of two processes counts half). Then a process has the engines of both
precisions in 4 bits, and one those of all: what bundles have alike are links to one file, as one
bundle of them all has it, and as a server holds them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import vlacut
from vlacut.bundle.reading import read_bundle
from vlacut.errors import PassError
from vlacut.hardware import Side
from vlacut.runtime.engines import load_engines

_RTN = "method=rtn observations=1"
PRECISIONS = {
    "float32": "",
    "W8A8": "quantise{weights=int8}",
    "W4A16": f"quantise{{weights=int4 {_RTN} activations=float}}",
    "W4A8": f"quantise{{weights=int4 {_RTN}}}",
}


class Held(NamedTuple):
    """Bytes: of the weights in bundles, and by what a process grew that loads and runs them."""

    stored: int
    anonymous: int
    files: int


def main() -> None:
    """Compile, load, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--weights", default="", help="of a model traced on shapes")
    parser.add_argument("--hold", nargs="+", metavar="BUNDLE", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.hold:
        sys.stdout.write(json.dumps(grown(chosen.hold)))
        return
    table = Table(box=None)
    for column in ("model", "precision", "MB of weights", "MB anonymous", "MB of files"):
        table.add_column(column, justify="left" if column in ("model", "precision") else "right")
    for model in chosen.models:
        with tempfile.TemporaryDirectory(prefix="vlacut-") as folder:
            for row in rows(model, Path(folder), chosen.weights):
                table.add_row(model, *row)
    Console(width=100).print(table)


def rows(model: str, folder: Path, weights: str) -> Iterator[tuple[str, ...]]:
    """Of each precision, of those in 4 bits together, and of all."""
    made: dict[str, Path] = {}
    for name, passes in PRECISIONS.items():
        try:
            made[name] = compiled(model, passes, folder / f"{name}.vlacut", weights)
        except PassError as error:
            yield name, str(error), "", ""
    link_alike(list(made.values()))
    held(list(made.values()))  # it packs weights, so that no process below does
    sets = {name: [path] for name, path in made.items()}
    few = [path for name, path in made.items() if name in ("W4A16", "W4A8")]
    sets |= {"both in 4 bits": few, "all": list(made.values())} if few else {}
    for name, listed in sets.items():
        yield name, *megabytes(held(listed))


def link_alike(bundles: Sequence[Path]) -> None:
    """Let weights of the same content, by which they are named, be one file."""
    first: dict[str, Path] = {}
    for file in [one for path in bundles for one in (path / "weights").iterdir()]:
        if first.setdefault(file.name, file) != file:
            file.unlink()
            file.hardlink_to(first[file.name])


def megabytes(found: Held) -> tuple[str, ...]:
    """For a table."""
    return tuple(f"{one / 1e6:.3g}" for one in found)


def compiled(model: str, passes: str, path: Path, weights: str) -> Path:
    """A model's bundle, all on the edge."""
    link = "10MB/s,20ms"
    pipeline = (
        f"simplify,convert-types{{source=bfloat16 target=float32}},"
        f"{passes + ',' if passes else ''}annotate-structure,"
        f"annotate-cost{{edge=jetson-agx-orin cloud=a100}},partition{{link={link} pins=*=edge}}"
    )
    vlacut.compile(
        model,
        out=path,
        pipeline=pipeline,
        weights=weights or (),
        golden=False,
        model_check=False,
        edge="jetson-agx-orin",
        cloud="a100",
        link=link,
    )
    return path


def held(bundles: Sequence[Path]) -> Held:
    """What bundles take, the engines of one process having them all."""
    command = [sys.executable, __file__, "--hold", *map(str, bundles)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    files = {file.name: file for path in bundles for file in (path / "weights").iterdir()}
    return Held(sum(one.stat().st_size for one in files.values()), *json.loads(done.stdout))


def grown(bundles: Sequence[str]) -> tuple[int, int]:
    """By how many bytes, anonymous and of files, this process grows when engines of bundles have
    been loaded and have run once.
    """
    before = memory()
    kept = []
    for path in bundles:
        bundle = read_bundle(Path(path))
        engines = load_engines(bundle, Side.EDGE)
        for part in bundle.parts(Side.EDGE):
            specs = {key: bundle.plan.spec[key] for key in part.inputs}
            zeros = {key: np.zeros(one.numpy_shape, one.numpy_dtype) for key, one in specs.items()}
            engines[part.name].run(zeros)
        kept.append(engines)
    after = memory()
    return after[0] - before[0], after[1] - before[1]


def memory() -> tuple[int, int]:
    """Anonymous and mapped bytes of this process, shared pages by their share."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    found = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    return found["Pss_Anon:"], found["Pss_File:"] + found["Pss_Shmem:"]


if __name__ == "__main__":
    main()
