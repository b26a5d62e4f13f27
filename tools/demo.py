"""The main job, as a user types it: compile, serve in a second process, run, verify."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VLACUT = [sys.executable, "-m", "vlacut"]
TARGET = ["--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "1GB/s,0.1ms"]


def main() -> None:
    """Run the demo in a temporary folder, or in the one given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="openvla:tiny")
    parser.add_argument("--budget", default="3MB", help="most bytes of weights in the cloud")
    parser.add_argument("--steps", default="50")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = str(Path(folder) / "demo.vlacut")
        budget = ["--cloud-budget", chosen.budget] if chosen.budget else []
        run("compile", chosen.model, *TARGET, *budget, "-o", bundle)
        observation = str(Path(bundle) / "golden" / "observation.npz")
        with served(bundle) as address:
            run("run", bundle, "--cloud", address, "--input", observation, "--steps", chosen.steps)
        run("verify", bundle)


def run(*words: str) -> None:
    """Show a command, then run it; the demo ends with it if it fails."""
    sys.stdout.write(f"\n$ vlacut {' '.join(words)}\n\n")
    sys.stdout.flush()
    done = subprocess.run([*VLACUT, *words], check=False)
    if done.returncode:
        sys.exit(done.returncode)


@contextmanager
def served(bundle: str) -> Iterator[str]:
    """The bundle's cloud side in a second process; yields its address."""
    words = ["serve", bundle, "--port", "0", "--json"]
    sys.stdout.write(f"\n$ vlacut {' '.join(words)} &\n")
    with subprocess.Popen([*VLACUT, *words], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        try:
            yield str(json.loads(line)["address"])
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
