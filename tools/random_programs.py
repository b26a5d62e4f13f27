"""Random programs, cut, pooled and coded, through two processes, against ONNX Runtime on them.

Ends with an error that names the seed where an action differs, a side hangs or one crashes.

    python tools/random_programs.py [--first 0] [--count 2000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def main() -> None:
    """Run, and print what the programs were."""
    from support.two_processes import run_many  # type: ignore[import-not-found]

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(chosen.first, chosen.first + chosen.count)
        print(dict(run_many(seeds, Path(folder), said=say)))


def say(seed: int, count: Counter[str]) -> None:
    """A line every fifty programs."""
    if count["programs"] % 50 == 0:
        print(f"up to seed {seed}: {dict(count)}", flush=True)


if __name__ == "__main__":
    main()
