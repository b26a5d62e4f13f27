"""A checkpoint in the layout of LeRobot: `config.json` says what goes in and out by LeRobot's
names, `model.safetensors` has the weights.

    python tools/examples/checkpoint.py [FOLDER]

Without FOLDER one is made, with numbers in the place of trained weights. The module below stands
for the policy's class; a model of the zoo takes a checkpoint as it is: `vlacut compile smolvla
--weights FOLDER`.
"""

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import vlacut

CONFIG = {
    "type": "mlp",
    "input_features": {
        "observation.images.top": {"type": "VISUAL", "shape": [3, 24, 24]},
        "observation.state": {"type": "STATE", "shape": [6]},
    },
    "output_features": {"action": {"type": "ACTION", "shape": [6]}},
}


class Policy(nn.Module):
    """Flattens what it is given, by LeRobot's names, and makes an action."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        sizes = [math.prod(one["shape"]) for one in config["input_features"].values()]
        (made,) = config["output_features"].values()
        self.head = nn.Sequential(
            nn.Linear(sum(sizes), 64), nn.GELU(), nn.Linear(64, math.prod(made["shape"]))
        )

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"action": self.head(torch.cat([one.flatten(1) for one in batch.values()], dim=1))}


def main() -> None:
    """Read the checkpoint, compile the policy, and run a step by LeRobot's names."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else write(Path(made))
        config = json.loads((folder / "config.json").read_text())
        policy = Policy(config)
        policy.load_state_dict(load_file(folder / "model.safetensors"))
        features = config["input_features"]
        batch = {name: torch.rand(1, *one["shape"]) for name, one in features.items()}
        out = Path(made) / "policy.vlacut"
        print(
            vlacut.compile(
                policy, (batch,), edge="jetson-agx-orin", cloud="a100", link="20MB/s,1ms", out=out
            ).summary()
        )
        with vlacut.connect(out) as robot:
            action = robot.step({name: one.numpy() for name, one in batch.items()})
        print({name: array.shape for name, array in action.items()})
        assert np.allclose(action["action"], policy(batch)["action"].detach(), atol=1e-5)


def write(folder: Path) -> Path:
    """A checkpoint of this layout."""
    torch.manual_seed(0)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(Policy(CONFIG).state_dict(), folder / "model.safetensors")
    return folder


if __name__ == "__main__":
    main()
