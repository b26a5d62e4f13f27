"""Write random weights for a full-size model of the zoo, in safetensors shards, piece by piece.

    python tools/random_checkpoint.py openvla checkpoint/

For measuring what needs a checkpoint's size and names but not its numbers. Every bfloat16 or
float32 is finite and between 2**-7 and 2**-6 in magnitude.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.progress import track

from vlacut.frontends.load import load_program
from vlacut.ir.graphs import value_spec
from vlacut.tensor import TensorSpec

NAMES = {"bfloat16": "BF16", "float32": "F32", "float16": "F16"}
CHUNK = 1 << 24


def main() -> None:
    """Trace the model for its names and shapes, then write the shards and their index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shard-gb", type=float, default=5.0)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    shards = list(split(missing_weights(chosen.model), round(chosen.shard_gb * 1e9)))
    names: dict[str, str] = {}
    for number, specs in enumerate(track(shards, "shards")):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        write_shard(chosen.folder / file, specs, np.random.default_rng(number))
        names |= {spec.name: file for spec in specs}
    total = sum(spec.nbytes for specs in shards for spec in specs)
    index = {"metadata": {"total_size": total}, "weight_map": names}
    (chosen.folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    sys.stdout.write(f"{len(names)} weights, {total / 1e9:.2f} GB in {len(shards)} shards\n")


def missing_weights(model: str) -> list[TensorSpec]:
    """Specs of the weights that the model has shapes of alone."""
    program = load_program(model)
    found = {
        name: value_spec(value)
        for phase in program.phases
        for name, value in phase.model.graph.initializers.items()
        if value.const_value is None
    }
    return [found[name] for name in sorted(found)]


def split(specs: list[TensorSpec], limit: int) -> Iterator[list[TensorSpec]]:
    """Runs of specs, each of at most `limit` bytes or of one tensor."""
    run: list[TensorSpec] = []
    for spec in specs:
        if run and sum(item.nbytes for item in run) + spec.nbytes > limit:
            yield run
            run = []
        run.append(spec)
    if run:
        yield run


def write_shard(path: Path, specs: list[TensorSpec], numbers: np.random.Generator) -> None:
    """One file: the header, then every tensor a piece at a time."""
    header, start = {}, 0
    for spec in specs:
        place = [start, start + spec.nbytes]
        entry = {"dtype": NAMES[spec.dtype], "shape": spec.shape, "data_offsets": place}
        header[spec.name], start = entry, place[1]
    data = json.dumps(header).encode()
    data += b" " * (-len(data) % 8)
    with path.open("wb") as file:
        file.write(len(data).to_bytes(8, "little") + data)
        for spec in specs:
            for at in range(0, spec.nbytes, CHUNK):
                file.write(random_bytes(spec.dtype, min(CHUNK, spec.nbytes - at), numbers))


def random_bytes(dtype: str, count: int, numbers: np.random.Generator) -> bytes:
    """Numbers with random signs and mantissas, and one exponent."""
    if dtype == "bfloat16":
        bits = numbers.integers(0, 1 << 16, count // 2, np.uint16)
        return ((bits & 0x807F) | 0x3C00).tobytes()
    if dtype == "float16":
        bits = numbers.integers(0, 1 << 16, count // 2, np.uint16)
        return ((bits & 0x83FF) | 0x2000).tobytes()
    words = numbers.integers(0, 1 << 32, count // 4, np.uint32)
    return ((words & 0x807FFFFF) | 0x3C000000).tobytes()


if __name__ == "__main__":
    main()
