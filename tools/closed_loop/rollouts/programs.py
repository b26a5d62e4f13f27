"""The policies as programs that vlacut compiles."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import vlacut
from vlacut.frontends.torch import TorchPhase, program_from_torch
from vlacut.ir.program import Program
from vlacut.tensor.npz import npz_bytes

from ..policies.flow import STEPS, FlowPolicy
from ..policies.heads import load
from ..policies.policy import CHUNK, DIMS, PICTURES, STATE, TORQUES
from ..policies.tokens import TokenPolicy
from ..policies.touching import TouchPolicy
from ..simulation.tasks import TASKS
from ..simulation.world import World
from ..training.scattered import scatter

EDGE, CLOUD, LINK = "jetson-agx-orin", "a100", "10MB/s,20ms"
RTC = "rtc"
# Activations of W4A16 stay in float32; those of W4A8 ONNX Runtime rounds by block.
PRECISIONS = {"as it is": "", "W8A8": "w8a8", "W4A16": "w4a16", "W4A8": "w4a8"}
FEWEST = "W4A8"  # bits
_SCENES = 128  # of which a quarter calibrate, see `--calibration`


def _example() -> dict[str, torch.Tensor]:
    """Of the right shapes."""
    numbers = torch.Generator().manual_seed(0)
    made = {
        name: torch.randint(0, 256, (64, 64, 3), generator=numbers, dtype=torch.uint8)
        for name in PICTURES
    }
    made["words"] = torch.tensor([1, 2])
    made["torques"] = torch.linspace(-4, 4, TORQUES)
    made["state"] = torch.tensor([0.4, 0.0, 0.3, 0.0, 1.0, 0.4, 0.0, 0.3, 0.0, 0.0])[:STATE]
    return made


def write_scenes(path: Path, count: int = _SCENES) -> None:
    """Write what flow sees on the belt, to calibrate roundings on: an .npz with an array [count,
    ...] for every input of `flow_program`.
    """
    world = World(TASKS["belt"].xml)
    seen = [scatter("belt", world, seed) for seed in range(count)]
    world.close()
    arrays = {name: np.stack([one[name] for one in seen]) for name in (*PICTURES, "state")}
    arrays["tokens"] = np.stack([one["words"] for one in seen])
    numbers = np.random.default_rng(1)
    arrays["noise"] = numbers.standard_normal((count, CHUNK, DIMS), np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(npz_bytes(arrays))


def token_program(net: TokenPolicy) -> Program:
    """OpenVLA's shape: a prefill, and sixteen trips of which each decodes an action's tokens."""
    example = _example()
    with torch.inference_mode():
        seen = net.vision(*(example[name] for name in PICTURES))
        made = net.prefill(seen, example["words"], example["state"])
    caches = dict(zip(("keys", "values", "row", "step", "chunk", "doubts"), made, strict=True))
    carried = {f"next_{name}": name for name in caches}
    phases = (
        TorchPhase("vision", net, {name: example[name] for name in PICTURES}, ("seen",), "vision"),
        TorchPhase(
            "prefill",
            net,
            {"seen": seen, "tokens": example["words"], "state": example["state"]},
            tuple(caches),
            "prefill",
        ),
        TorchPhase("decode", net, caches, tuple(carried), "decode", CHUNK, carried),
        TorchPhase(
            "finish",
            net,
            {
                "next_chunk": caches["chunk"],
                "state": example["state"],
                "next_doubts": caches["doubts"],
            },
            ("actions", "doubt"),
            "finish",
        ),
    )
    return program_from_torch(
        "closed-loop-tokens", phases, [*PICTURES, "tokens", "state"], ["actions", "doubt"]
    )


def flow_program(net: FlowPolicy) -> Program:
    """pi0's shape: a prefix once, and ten trips from noise to a chunk."""
    example = _example()
    noise = torch.randn(CHUNK, DIMS, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        seen = net.vision(*(example[name] for name in PICTURES))
        known = {"tokens": example["words"], "state": example["state"]}
        known |= {"torques": example["torques"]} if isinstance(net, TouchPolicy) else {}
        known |= {"noise": noise}
        made = net.prefill(seen, *known.values())
    prefix = dict(zip(("keys", "values", "places", "t"), made, strict=True))
    loop = {name: prefix[name] for name in ("places", "t", "keys", "values")}
    carried = {"actions": "places", "next_t": "t"}
    phases = (
        TorchPhase("vision", net, {name: example[name] for name in PICTURES}, ("seen",), "vision"),
        TorchPhase("prefix", net, {"seen": seen, **known}, tuple(prefix), "prefill"),
        TorchPhase("denoise", net, loop, tuple(carried), "denoise", STEPS, carried),
    )
    observation = [*PICTURES, *known]
    name = "touch" if isinstance(net, TouchPolicy) else "flow"
    return program_from_torch(f"closed-loop-{name}", phases, observation, ["actions"])


@dataclass(frozen=True)
class Made:
    """A trained policy as a bundle, which may not be compiled yet.

    Attributes:
        name: of the policy; `rtc` is flow, continuing the chunk in force.
        weights: folder of weights.
        folder: of bundles.
        precision: what weights go through, see the pass `quantise`; empty to leave them.
    """

    name: str
    weights: Path
    folder: Path
    precision: str = ""

    @property
    def _file(self) -> Path:
        return self.weights / f"{self._net}.safetensors"

    @property
    def _net(self) -> str:
        return "flow" if self.name == RTC else self.name

    @property
    def there(self) -> bool:
        """Whether it was trained."""
        return self._file.is_file()

    @property
    def path(self) -> Path:
        """Of the bundle; other weights have another."""
        said = f"{self.name}-{self.precision}-{_SCENES}" if self.precision else self.name
        digest = hashlib.sha256(self._file.read_bytes()).hexdigest()
        return self.folder / f"{said}-{digest[:12]}.vlacut"

    def build(self) -> None:
        """Compile it, unless it is there."""
        if self.path.exists():
            return
        net = load(self._net, self.weights)
        program = token_program(net) if isinstance(net, TokenPolicy) else flow_program(net)
        self.folder.mkdir(parents=True, exist_ok=True)
        scenes = self.folder / "scenes.npz"
        if self.precision and not scenes.exists():
            write_scenes(scenes)
        vlacut.compile(
            program,
            edge=EDGE,
            cloud=CLOUD,
            link=LINK,
            real_time_chunking="guided" if self.name == RTC else "",
            quantise=self.precision,
            calibration=str(scenes) if self.precision else "",
            # It draws pictures anew, and activations beyond their scales are cut off.
            model_check=not self.precision,
            pool="block",
            out=self.path,
        )
