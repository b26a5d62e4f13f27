r"""What coded pictures gain: a policy with two cameras in the cloud, planned and run, by codec.

    python tools/camera_gain.py [--side 224] [--links 10MB/s,20ms 2.5MB/s,20ms] [--steps 30]

The policy reads two cameras of uint8 by a vision transformer (ViT-S/16, random weights). It is put
into the cloud whole, and planned without codecs, with zstd, and with JPEG of each quality named;
the price counts the bytes that its example takes: two pieces of a photograph that matplotlib ships.
Then the twin runs it: the real runtime and its codecs on those pictures, over an emulated link in
real time, by engines that take the plan's times. A row has both, the ratio of the price without
codecs to that with, that of the twin, and how far the action moves. What else runs on this machine
makes the twin late, never early.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import matplotlib.cbook
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from transformers import ViTConfig, ViTModel

from vlacut.cli.show.output import milliseconds, size, table
from vlacut.compiler.driver import compile_program
from vlacut.compiler.target import Target
from vlacut.emulation import shape_of
from vlacut.emulation.twin import run_twin
from vlacut.frontends.torch import program_from_module
from vlacut.hardware import parse_link
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.program import Program

LINKS = ("10MB/s,20ms", "2.5MB/s,20ms")  # the second is 20 Mbit/s
CODECS = ("", "zstd", "jpeg95", "jpeg90", "jpeg75", "all")


class Cameras(nn.Module):
    """Two cameras, the robot's state, and a chunk of actions."""

    def __init__(self, side: int) -> None:
        super().__init__()
        config = ViTConfig(
            hidden_size=384,
            num_hidden_layers=12,
            num_attention_heads=6,
            intermediate_size=1536,
            image_size=side,
            patch_size=16,
        )
        config._attn_implementation = "sdpa"
        self.vit = ViTModel(config, add_pooling_layer=False)
        self.head = nn.Sequential(nn.Linear(2 * 384 + 8, 512), nn.GELU(), nn.Linear(512, 56))

    def forward(self, top: Tensor, wrist: Tensor, state: Tensor) -> Tensor:
        """Pictures [S, S, 3] of uint8, and the state [1, 8], to actions [1, 8, 7]."""
        both = torch.stack([top, wrist]).permute(0, 3, 1, 2).to(torch.float32)
        seen = self.vit(both / 127.5 - 1).last_hidden_state[:, 0].reshape(1, -1)
        actions: Tensor = self.head(torch.cat([seen, state], dim=-1))
        return actions.reshape(1, 8, 7)


def main() -> None:
    """Plan and run everything, print a row a link and codec."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--links", nargs="+", default=LINKS)
    parser.add_argument("--codecs", nargs="+", default=CODECS)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--error", type=float, default=0.05)
    asked = parser.parse_args()
    program = policy(asked.side)
    rows = []
    for link in asked.links:
        base = (0.0, 0.0)
        for codecs in track(asked.codecs, link, console=Console(stderr=True)):
            base, row = measure(program, link, codecs, asked.steps, asked.error, base)
            rows.append(row)
    columns = (
        *("link", "codecs", "taken", "up", "price ms", "twin ms", "twin/price"),
        *("price gains", "twin gains", "action's error"),
    )
    title = f"Two cameras of {asked.side} x {asked.side}, everything in the cloud"
    Console(width=150, highlight=False).print(table(title, columns, rows, left=3))


def policy(side: int) -> Program:
    """The policy with its example."""
    torch.manual_seed(0)
    photograph = str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    shown = np.asarray(Image.open(photograph))
    pictures = [shown[:side, :side], shown[-side:, -side:]]
    tensors = [torch.from_numpy(np.ascontiguousarray(one)) for one in pictures]
    args = (*tensors, torch.zeros(1, 8))
    return program_from_module(Cameras(side).eval(), args, name="cameras")


def measure(
    program: Program,
    link: str,
    codecs: str,
    steps: int,
    error: float,
    base: tuple[float, float],
) -> tuple[tuple[float, float], tuple[str, ...]]:
    """What it takes without codecs, by price and in the twin; and the row."""
    target = Target(
        "jetson-agx-orin",
        "a100",
        link,
        pin=("*=cloud",),
        codecs=codecs,
        max_action_error=error if codecs else None,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cameras.vlacut"
        planned, _ = compile_program(program, target, path, backend="emulated")
        seen = dict(EXAMPLE.get(program))
        done = run_twin(path, shape_of(parse_link(link)), steps=steps, observation=seen)
    chosen = planned.plan.variants[0]
    took = statistics.median(one.report.latency_s for one in done[steps // 4 :])
    price = chosen.price.total_s
    base = base if base[0] else (price, took)
    taken = ", ".join(dict.fromkeys(str(one.codec) for one in chosen.coded))
    moved = chosen.action_error.measured
    return base, (
        link,
        codecs or "none",
        taken,
        size(chosen.price.bytes_up),
        milliseconds(price),
        milliseconds(took),
        f"{took / price:.3f}",
        f"{base[0] / price:.2f}",
        f"{base[1] / took:.2f}",
        "-" if not chosen.coded or moved is None else f"{moved:.2g}",
    )


if __name__ == "__main__":
    main()
