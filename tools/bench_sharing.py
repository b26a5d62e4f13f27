"""Memory of two phases that read the same weights: ours, ONNX Runtime's defaults, and the weights.

    .venv/bin/python tools/bench_sharing.py

The prefill and the decoding of one Llama are compiled into a bundle, both on one side; a process
loads and runs them one after the other. Proportional set size (PSS) counts a page that is mapped
twice once, so it is the memory that the process holds. "Defaults" loads the same files with ONNX
Runtime's default options.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from vlacut import registry
from vlacut.backend import Engine
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import read_bundle
from vlacut.plans.plan import Part

TOKENS = {"prefill": 64, "decode": 1}
LINK = "1kB/s,1000ms"  # so that everything is on the edge


def main() -> None:
    """Compile, measure in processes of their own, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--measure", nargs=2, metavar=("BUNDLE", "HOW"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        sys.stdout.write(json.dumps(measure(Path(chosen.measure[0]), chosen.measure[1])))
        return
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        compile_llama(bundle, chosen.width, chosen.layers)
        held = sum(path.stat().st_size for path in (bundle / "weights").iterdir())
        made = {how: measured(bundle, how) for how in ("ours", "defaults")}
    table = Table("", "MB", "of the weights", box=None)
    table.add_row("weights in the bundle", f"{held / 1e6:.0f}", "1.00")
    for how, steps in made.items():
        for step, pss in steps.items():
            table.add_row(f"{how}: {step}", f"{pss / 1e6:.0f}", f"{pss / held:.2f}")
    Console().print(table)


def measured(bundle: Path, how: str) -> dict[str, int]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--measure", str(bundle), how]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def compile_llama(out: Path, width: int, layers: int) -> None:
    """A bundle of one Llama of random weights in two phases."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    import vlacut
    from vlacut.frontends.torch import TorchPhase, program_from_torch

    class Words(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            heads = width // 64
            config = LlamaConfig(
                hidden_size=width,
                intermediate_size=4 * width,
                vocab_size=1000,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                num_key_value_heads=heads,
            )
            self.llama = LlamaModel(config)
            self.llama.train(False)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.llama(ids, use_cache=False).last_hidden_state
            return hidden

    module = Words()
    phases = [
        TorchPhase(name, module, {f"{name}_ids": torch.ones(1, count, dtype=torch.int64)}, (name,))
        for name, count in TOKENS.items()
    ]
    names = [f"{name}_ids" for name in TOKENS]
    program = program_from_torch("llama", phases, names, list(TOKENS))
    vlacut.compile(program, edge="jetson-agx-orin", cloud="a100", link=LINK, out=out, golden=False)


def measure(path: Path, how: str) -> dict[str, int]:
    """PSS in bytes beyond that of the process without engines, as they are loaded and run."""
    bundle = read_bundle(path)
    load = {"ours": ours, "defaults": defaults}[how](bundle)
    before = pss()
    engines: list[Engine] = []
    steps: dict[str, int] = {}
    for part in bundle.plan.parts:
        engines.append(load(part))
        specs = (bundle.plan.spec[key] for key in part.inputs)
        engines[-1].run({spec.name: np.ones(spec.shape, np.dtype(spec.dtype)) for spec in specs})
        steps[f"{part.phase} loaded and run" if not steps else f"and {part.phase}"] = pss() - before
    return steps


def ours(bundle: Bundle) -> Callable[[Part], Engine]:
    """Loads a part as the runtime does."""
    executor = registry.load("executors", bundle.backend(bundle.plan.parts[0].side))()
    return lambda part: executor.load(bundle.part_path(part), bundle.root, bundle.recipe(part.side))


class _Session:
    """A session with ONNX Runtime's default options."""

    def __init__(self, model: Path, root: Path) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        entry = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(entry, str(root))
        self._session = ort.InferenceSession(model.read_bytes(), options)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._session.run(None, dict(inputs))
        return {}


def defaults(bundle: Bundle) -> Callable[[Part], Engine]:
    """Loads a part as a user of ONNX Runtime would."""
    return lambda part: _Session(bundle.part_path(part), bundle.root)


def pss() -> int:
    """Proportional set size of this process, in bytes."""
    text = Path("/proc/self/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
