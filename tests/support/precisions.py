"""A robot that precisions pay on, and a policy for it."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import numpy as np

from support.onnx_text import write
from vlacut.frontends.load import load_program
from vlacut.ir.program import Program

_RATES = {"memory_bandwidth": "1e7", "cache_bandwidth": "1e7"}  # bytes per second
_ENCODE = """encode (float[1, 96] image) => (float[1, 128] memory) {
  seen = MatMul(image, see)
  kept = Relu(seen)
  again = MatMul(kept, both)
  memory = Tanh(again)
}"""
_DENOISE = """denoise (float[1, 128] memory, float[1, 128] noise) => (float[1, 128] action) {
  met = Add(memory, noise)
  felt = MatMul(met, both)
  grown = Relu(felt)
  step = MatMul(grown, act)
  action = Sub(noise, step)
}"""
_PROGRAM = """outputs = ["action"]
[[phase]]
name = "encode"
file = "encode.onnx"
[[phase]]
name = "denoise"
file = "denoise.onnx"
trips = 3
carried = { action = "noise" }
"""


def slow_memory(folder: Path) -> str:
    """A device whose memory is so slow that the bytes of weights decide; its file."""
    text = (files("vlacut.hardware") / "profiles" / "jetson-orin-nx.toml").read_text()
    for name, rate in _RATES.items():
        text = re.sub(rf"(?m)^{name} = .*$", f"{name} = {rate}", text, count=1)
    file = folder / "slow.toml"
    file.write_text(text)
    return str(file)


def policy(folder: Path) -> Program:
    """It sees once, then refines the action in a loop, by a weight that both phases have."""
    numbers = np.random.default_rng(0)

    def weight(rows: int, columns: int) -> np.ndarray:
        scaled = numbers.standard_normal((rows, columns)) / np.sqrt(rows)
        return scaled.astype(np.float32)

    both = weight(128, 128)
    write(folder / "encode.onnx", _ENCODE, {"see": weight(96, 128), "both": both})
    write(folder / "denoise.onnx", _DENOISE, {"both": both, "act": weight(128, 128) / 4})
    (folder / "program.toml").write_text(_PROGRAM)
    return load_program(str(folder))
