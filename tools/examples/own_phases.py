"""A policy of several phases that remembers: what is read once, what loops, and what stays.

python tools/examples/own_phases.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import vlacut
from vlacut.frontends.torch import program_from_torch


class Flow(nn.Module):
    """Mixes a picture into a memory, and denoises a chunk of actions ten times."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.see, self.act = nn.Linear(3 * 16 * 16, 32), nn.Linear(32 + 14, 14)

    def encode(self, image: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = self.see(image.flatten(1)).relu()
        return 0.5 * before + seen

    def denoise(self, memory: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        step: torch.Tensor = self.act(torch.cat([memory, noise], dim=1))
        return noise - 0.1 * step


def main() -> None:
    """Compile it, run two steps of an episode, and compare with the module."""
    net, image, noise = Flow(), torch.rand(1, 3, 16, 16), torch.randn(1, 14)
    memory = torch.zeros(1, 32)
    encode = vlacut.TorchPhase(
        "encode", net, {"image": image, "before": memory}, ("memory",), "encode"
    )
    inputs = {"memory": memory, "noise": noise}
    denoise = vlacut.TorchPhase(
        "denoise", net, inputs, ("action",), "denoise", 10, {"action": "noise"}
    )
    program = program_from_torch(
        "flow", [encode, denoise], ["image", "noise"], ["action"], state={"memory": "before"}
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "flow.vlacut"
        print(
            vlacut.compile(
                program, edge="jetson-agx-orin", cloud="a100", link="10MB/s,20ms", out=out
            ).summary()
        )
        observation = {"image": image.numpy(), "noise": noise.numpy()}
        with vlacut.connect(out) as robot:
            for _ in range(2):
                made = robot.step(observation)["action"]
                print(f"state {robot.last.state}: {made[0, :3].round(4)}")
    memory = net.encode(image, net.encode(image, memory))
    for _ in range(10):
        noise = net.denoise(memory, noise)
    assert np.allclose(made, noise.detach().numpy(), atol=1e-4)


if __name__ == "__main__":
    main()
