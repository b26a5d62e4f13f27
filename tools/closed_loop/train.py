"""Trains the bench's policies by imitation of the scripted experts, with DAgger.

    python -m tools.closed_loop.train tokens flow        # at most 20 minutes each on two cores

The weights of a policy are written to `tools/closed_loop/weights/NAME.safetensors` in float16.
The same seed and the same versions give the same weights on the same machine.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from .episodes import Observation, gather
from .policy import POLICIES, FlowPolicy, TokenPolicy
from .tasks import TASKS
from .world import World

WEIGHTS = Path(__file__).parent / "weights"
_DEMOS = {"pick": 60, "belt": 130, "insert": 130}
_ROUNDS = 4
_DAGGER = {"pick": 16, "belt": 40, "insert": 40}  # episodes per round
_BATCH, _RATE = 64, 1e-3
_HELD_OUT = 1_000_000  # seeds from here on are never trained on
_out = Console()

Net = TokenPolicy | FlowPolicy


class Samples:
    """Samples in memory, drawn in batches."""

    def __init__(self) -> None:
        self._rows: list[Observation] = []

    def __len__(self) -> int:
        return len(self._rows)

    def extend(self, rows: list[Observation]) -> None:
        """Take samples in."""
        self._rows += rows

    def batch(self, numbers: np.random.Generator, size: int) -> dict[str, torch.Tensor]:
        """Drawn with replacement; pictures a little brighter or darker, with some noise."""
        rows = [self._rows[index] for index in numbers.integers(len(self._rows), size=size)]
        made = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        gain = torch.from_numpy(numbers.uniform(0.85, 1.15, (size, 1, 1, 1)).astype(np.float32))
        for name in ("front", "before", "wrist"):
            noise = torch.randn(1, *made[name].shape[1:]) * float(numbers.uniform(0, 8))
            made[name] = (made[name] * gain + noise).clamp(0, 255)
        return made

    def states(self) -> np.ndarray:
        """Proprioception of all samples."""
        return np.stack([row["state"] for row in self._rows])


def actor_of(net: Net, numbers: np.random.Generator):  # type: ignore[no-untyped-def]
    """A policy as what drives an episode."""

    def act(observation: Observation) -> np.ndarray:
        given = {name: torch.from_numpy(array) for name, array in observation.items()}
        if isinstance(net, FlowPolicy):
            given["noise"] = torch.from_numpy(numbers.normal(size=(16, 5)).astype(np.float32))
        with torch.inference_mode():
            return np.asarray(net.act(given).numpy())

    return act


def fit(net: Net, samples: Samples, steps: int, numbers: np.random.Generator, rate: float) -> float:
    """Some steps of AdamW with the rate falling to nothing; the mean loss of the last tenth."""
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    losses = []
    for _ in range(steps):
        loss = net.loss(samples.batch(numbers, _BATCH))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    net.eval()
    return float(np.mean(losses[-max(1, steps // 10) :]))


def demonstrations(worlds: dict[str, World], scale: float) -> Samples:
    """What the experts show."""
    samples = Samples()
    for task, count in _DEMOS.items():
        for seed in range(max(1, round(scale * count))):
            rows, _ = gather(task, worlds[task], seed, None, np.random.default_rng(seed))
            samples.extend(rows)
    return samples


def train(name: str, scale: float, steps: int, seed: int) -> Path:
    """Train one policy and write its weights."""
    began = time.monotonic()
    torch.manual_seed(seed)
    numbers = np.random.default_rng(seed)
    worlds = {task: World(rules.xml) for task, rules in TASKS.items()}
    samples = demonstrations(worlds, scale)
    net = POLICIES[name]()
    states = samples.states()
    net.mean.copy_(torch.from_numpy(states.mean(0)))
    net.deviation.copy_(torch.from_numpy(states.std(0) + 1e-3))
    _out.print(f"{name}: {len(samples)} samples, {time.monotonic() - began:.0f} s")
    loss = fit(net, samples, steps, numbers, _RATE)
    for turn in range(_ROUNDS):
        won = []
        for task, count in _DAGGER.items():
            for index in range(max(1, round(scale * count))):
                begins = 10_000 * (turn + 1) + index
                rows, good = gather(task, worlds[task], begins, actor_of(net, numbers), numbers)
                samples.extend(rows)
                won.append(good)
        _out.print(
            f"{name}: round {turn + 1}, loss {loss:.4f}, {np.mean(won):.0%} of {len(won)} while "
            f"gathering, {len(samples)} samples, {time.monotonic() - began:.0f} s"
        )
        last = turn == _ROUNDS - 1
        loss = fit(net, samples, steps * (2 if last else 1), numbers, _RATE * (1 if last else 0.7))
        save(net, name)
    _out.print(f"{name}: loss {loss:.4f}, {time.monotonic() - began:.0f} s in all")
    return save(net, name)


def save(net: Net, name: str) -> Path:
    """Write weights in float16."""
    WEIGHTS.mkdir(exist_ok=True)
    half = {key: value.to(torch.float16).contiguous() for key, value in net.state_dict().items()}
    path = WEIGHTS / f"{name}.safetensors"
    save_file(half, path)
    return path


def load(name: str) -> Net:
    """A trained policy, in float32."""
    net = POLICIES[name]()
    read = load_file(WEIGHTS / f"{name}.safetensors")
    net.load_state_dict({key: value.to(torch.float32) for key, value in read.items()})
    return net.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(POLICIES))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the episodes")
    parser.add_argument("--steps", type=int, default=900, help="of AdamW, a round")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    for name in chosen.names:
        train(name, chosen.scale, chosen.steps, chosen.seed)


if __name__ == "__main__":
    main()
