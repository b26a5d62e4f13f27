"""Memory of a server of two bundles that share most of their weights, beside one of them alone.

    .venv/bin/python tools/bench_hosting.py [--layers 10] [--width 2048]

Two policies of linear layers, the last one their own, are compiled with everything in the cloud.
A server in a process of its own holds the first, or both; a robot makes a step of each.
Proportional set size (PSS) counts a page that is mapped twice once, so it is the memory that the
process holds.
What a server without a bundle takes, Python and ONNX Runtime, is measured by emulated engines.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import vlacut


def main() -> None:
    """Compile, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--width", type=int, default=2048)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("first", "second")]
        layers = [nn.Linear(chosen.width, chosen.width) for _ in range(chosen.layers - 1)]
        for path in paths:
            own = nn.Linear(chosen.width, chosen.width)
            net = nn.Sequential(*layers, own).eval()
            vlacut.compile(
                net,
                (torch.zeros(1, chosen.width),),
                edge="jetson-agx-orin",
                cloud="a100",
                link="10GB/s,0us",
                pin=["*=cloud"],
                out=path,
            )
        bare = held(paths[:1], "--emulate")
        one, both = held(paths[:1]), held(paths)
    table = Table("a server of", "PSS, MB", "of one", "without the bare one", box=None)
    table.add_row("no engines", f"{bare / 1e6:.0f}", f"{bare / one:.2f}", "")
    for name, pss in (("the first", one), ("both", both)):
        more = (pss - bare) / (one - bare)
        table.add_row(name, f"{pss / 1e6:.0f}", f"{pss / one:.2f}", f"{more:.2f}")
    Console().print(table)


def held(paths: list[Path], *words: str) -> int:
    """PSS of a server of these bundles in bytes, after a step of each."""
    command = [sys.executable, "-m", "vlacut", "serve", *map(str, paths), "--port", "0", "--json"]
    command += ["--memory", "100GB", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["address"]
            for path in paths:
                with vlacut.connect(path, address, emulate=bool(words)) as policy:
                    policy.step(policy.bundle.golden("observation"))
            rollup = Path(f"/proc/{server.pid}/smaps_rollup").read_text()
        finally:
            server.terminate()
    return int(re.findall(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)[0]) * 1024


if __name__ == "__main__":
    main()
