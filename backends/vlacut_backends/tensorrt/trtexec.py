"""`trtexec`, the command that comes with TensorRT, as builder where its Python module is not.

It is asked for its flags first (`--help`): those that a release lacks are not passed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vlacut.errors import BackendError
from vlacut_backends.tensorrt.recipe import STRONGLY_TYPED, TF32, Recipe

_PLACES = ("/usr/src/tensorrt/bin/trtexec", "/usr/local/tensorrt/bin/trtexec")
_BANNER = re.compile(r"\[TensorRT v(\d+)\]")
_MEDIAN = re.compile(r"GPU Compute Time:.*?median = ([\d.]+) ms")
_TOLD_LINES = 3


def find_trtexec() -> str:
    """Where the binary is. BackendError if there is none."""
    for candidate in (shutil.which("trtexec"), *_PLACES):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise BackendError(f"no trtexec on PATH nor at {', '.join(_PLACES)}; install TensorRT's tools")


def trtexec_version(binary: str) -> str:
    """The TensorRT of a binary, e.g. `10.3.0`; BackendError if it does not say."""
    done = _run([binary, "--help"])
    found = _BANNER.search(done)
    if found is None:
        raise BackendError(f"{binary}: does not say which TensorRT it is of")
    number = int(found.group(1))
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def build_command(
    binary: str, model: Path, out: Path, recipe: Recipe, workspace: int, timing_cache: str
) -> list[str]:
    """The command line that builds an engine, in the flags that this release has."""
    wanted = [
        f"--onnx={model}",
        f"--saveEngine={out}",
        f"--memPoolSize=workspace:{workspace >> 20}",  # MiB
        f"--builderOptimizationLevel={recipe.optimization_level}",
        "--skipInference",
    ]
    if timing_cache:
        wanted.append(f"--timingCacheFile={timing_cache}")
    if STRONGLY_TYPED in recipe.flags:
        wanted.append("--stronglyTyped")
    if TF32 not in recipe.flags:
        wanted.append("--noTF32")
    known = set(re.findall(r"--\w+", _run([binary, "--help"])))
    return [binary, *(flag for flag in wanted if flag.partition("=")[0] in known)]


def build_by_trtexec(
    binary: str,
    model: Path,
    root: Path,
    out: Path,
    recipe: Recipe,
    workspace: int,
    timing_cache: str,
    note: Callable[[str], None],
) -> None:
    """Build an engine with the binary. BackendError with its last words if that fails."""
    with _beside_weights(model, root) as copy:
        command = build_command(binary, copy, out, recipe, workspace, timing_cache)
        note(shlex.join(command))
        _run(command)
    if not out.is_file():
        raise BackendError(f"part {model.stem}: {binary} wrote no engine")


def run_by_trtexec(
    binary: str, engine: Path, inputs: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], float]:
    """Run an engine with the binary: flat outputs as float64, and the median of milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        given = []
        for index, (key, array) in enumerate(inputs.items()):
            array.tofile(Path(folder, f"{index}.bin"))
            given.append(f"'{key}':{folder}/{index}.bin")
        exported = Path(folder, "outputs.json")
        said = _run(
            [
                binary,
                f"--loadEngine={engine}",
                *([f"--loadInputs={','.join(given)}"] if given else []),
                f"--exportOutput={exported}",
                "--useCudaGraph",
            ]
        )
        outputs = json.loads(exported.read_text())
    found = _MEDIAN.search(said)
    made = {item["name"]: np.array(item["values"], np.float64) for item in outputs}
    return made, float(found.group(1)) if found else float("nan")


@contextmanager
def _beside_weights(model: Path, root: Path) -> Iterator[Path]:
    """A copy of the part in a folder where its weights are found, as trtexec looks for them."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, model.name)
        shutil.copyfile(model, copy)
        if (root / "weights").is_dir():
            Path(folder, "weights").symlink_to((root / "weights").resolve())
        yield copy


def _run(command: Sequence[str]) -> str:
    """What a command says; BackendError if it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode and "--help" not in command:
        told = [line for line in done.stdout.splitlines() if "[E]" in line][-_TOLD_LINES:]
        raise BackendError(
            f"{command[0]} failed ({done.returncode}): {' '.join(told) or 'it does not say why'}"
        )
    return done.stdout
