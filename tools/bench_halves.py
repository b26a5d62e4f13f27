"""How fast the halves of a large bundle are written, beside copying the same files.

    .venv/bin/python tools/bench_halves.py [--gb 15] [--turns 1] [--folder FOLDER]

A policy of equal layers with random weights is written as an ONNX file, and compiled with its first
fifth on the robot; nothing of it is run. Then in turns either half is written, every byte of it
checked against its digest, and the files of that half are copied by `cp`, which checks nothing.
Halves are removed as soon as they are measured: it takes twice the size of the bundle on the disk.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

import vlacut
from vlacut.bundle.halving import write_half
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import read_bundle
from vlacut.hardware import Side

LAYERS, ON_THE_ROBOT = 25, 5


def main() -> None:
    """Write, compile, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gb", type=float, default=15.0)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where; in the folder of temporary files")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        root = Path(folder)
        model = written(root / "model", chosen.gb)
        vlacut.compile(
            str(model),
            edge="jetson-agx-orin",
            cloud="a100",
            link="100MB/s,1ms",
            backend="onnx",
            golden=False,
            pin=[f"m{layer}={_side(layer)}" for layer in range(LAYERS)],
            out=root / "whole",
        )
        shutil.rmtree(root / "model")
        measure(read_bundle(root / "whole"), root, chosen.turns)


def _side(layer: int) -> str:
    return "edge" if layer < ON_THE_ROBOT else "cloud"


def written(folder: Path, gigabytes: float) -> Path:
    """An ONNX file of layers, whose weights are random numbers in one file beside it."""
    folder.mkdir()
    width = round((gigabytes * 1e9 / 4 / LAYERS) ** 0.5)
    numbers, size = np.random.default_rng(0), width * width * 4
    nodes, weights = [], []
    with open(folder / "weights", "wb") as file:
        for layer in range(LAYERS):
            for _ in range(width):
                file.write(numbers.random(width, np.float32).tobytes())
            weight = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=[width, width])
            weight.data_location = TensorProto.EXTERNAL
            for key, value in (
                ("location", "weights"),
                ("offset", str(layer * size)),
                ("length", str(size)),
            ):
                weight.external_data.add(key=key, value=value)
            weights.append(weight)
            names = [f"x{layer}", f"w{layer}"]
            nodes.append(helper.make_node("MatMul", names, [f"x{layer + 1}"], name=f"m{layer}"))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width])
        for name in ("x0", f"x{LAYERS}")
    ]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    path = folder / "layers.onnx"
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path))
    return path


def measure(bundle: Bundle, root: Path, turns: int) -> None:
    """A row for each half and turn."""
    table = Table("half", "GB", "written, s", "copied, s", "of copying's speed", box=None)
    for _ in range(turns):
        for side in (Side.CLOUD, Side.EDGE):
            half = root / side.value
            took = timed(partial(write_half, bundle, side, half))
            held = sum(path.stat().st_size for path in half.rglob("*") if path.is_file())
            names = [path.relative_to(half) for path in half.rglob("*") if path.is_file()]
            shutil.rmtree(half)
            copied = timed(partial(copy, bundle.root, names, root / "copy"))
            shutil.rmtree(root / "copy")
            row = f"{held / 1e9:.2f}", f"{took:.1f}", f"{copied:.1f}", f"{copied / took:.2f}"
            table.add_row(side.value, *row)
    Console().print(table)


def timed(what: Callable[[], object]) -> float:
    """Seconds that it takes until the disk has it."""
    subprocess.run(["sync"], check=True)
    begin = time.monotonic()
    what()
    subprocess.run(["sync"], check=True)
    return time.monotonic() - begin


def copy(root: Path, names: list[Path], out: Path) -> None:
    """Copy files of a bundle by `cp`, with no clone."""
    for name in names:
        if (root / name).is_file():  # not what says whose half it is
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            command = ["cp", "--reflink=never", "--sparse=never", str(root / name), str(out / name)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
