"""What compiling a model of full size costs: against copying its weights, and when interrupted.

    python tools/random_checkpoint.py openvla checkpoint/     # 15 GB, once
    python tools/bench_compile.py openvla checkpoint/ work/   # needs three times that on the disk

Each round copies the checkpoint (and syncs the copy), then compiles it into a bundle, on the same
disk; the last column is the ratio of the two. Then compiles are killed at random moments, and the
bundle of before must still be whole, every byte of it checked.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vlacut.bundle.reading import open_bundle

TARGET = ["--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "10MB/s,20ms"]


def main() -> None:
    """Measure, print the table, and fail if a killed compile harmed the bundle."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=5)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    bundle = chosen.work / "bundle"
    command = compile_command(chosen.model, chosen.checkpoint, bundle)
    table = Table("round", "copy s", "compile s", "peak GB", "ratio", box=None)
    ratios, longest = [], 0.0
    for number in range(chosen.rounds):
        shutil.rmtree(bundle, ignore_errors=True)  # the copy goes to a free place, too
        copied = copy(chosen.checkpoint, chosen.work / "copy")
        made, peak = run(command)
        ratios.append(made / copied)
        longest = max(longest, made)
        figures = (copied, made, peak / 1e9, made / copied)
        table.add_row(str(number), *(f"{figure:.2f}" for figure in figures))
    console = Console()
    console.print(table)
    console.print(f"median ratio {statistics.median(ratios):.2f}")
    moments = [random.uniform(0.05, 0.98) * longest for _ in range(chosen.kills)]
    for moment in moments:
        kill(command, moment)
    digest = open_bundle(bundle).digest.hex()  # raises BundleError where a byte is missing
    killed = ", ".join(f"{moment:.1f} s" for moment in moments)
    console.print(f"killed after {killed}: bundle {digest[:12]} is whole")


def compile_command(model: str, checkpoint: Path, bundle: Path) -> list[str]:
    """The command that a user types; no back end of this machine could hold the model."""
    program = [sys.executable, "-m", "vlacut", "compile", model, "--weights", str(checkpoint)]
    return [*program, *TARGET, "--backend", "onnx", "--no-golden", "-o", str(bundle), "--json"]


def copy(source: Path, target: Path) -> float:
    """Seconds of copying a folder and syncing the copy."""
    start = time.perf_counter()
    subprocess.run(["cp", "-r", "--", source, target], check=True)
    for path in target.rglob("*"):
        subprocess.run(["sync", path], check=True)
    seconds = time.perf_counter() - start
    shutil.rmtree(target)
    return seconds


def run(command: list[str]) -> tuple[float, int]:
    """Seconds of a command, and the most memory it held, in bytes."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, peak_bytes(usage)


def peak_bytes(usage: resource.struct_rusage) -> int:
    """Linux counts it in units of 1024 bytes."""
    return usage.ru_maxrss * 1024


def kill(command: list[str], after: float) -> None:
    """Start a command and kill it after so many seconds."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    main()
