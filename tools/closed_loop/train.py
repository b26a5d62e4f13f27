"""Trains the bench's policies by imitation of the scripted experts, with DAgger.

    python -m tools.closed_loop.train pick belt          # both policies, two processes

Both policies have one prefix, and learn from the same samples: what either does while it drives is
labelled by the expert. The prefix also learns to say what the expert knows of the scene, which
pictures only show; nothing of that is asked when it drives. Weights go to
`tools/closed_loop/weights/NAME.safetensors` in float16. The same seed, the same number of processes
and the same versions give the same weights on the same machine. Processes share the work: each
gathers its share of a round's episodes into `--keep`, and learns from its share of every batch. A
run that was stopped goes on after the last round kept there.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import distributed, nn

from .episodes import Observation, demonstrate, gather
from .policy import CHUNK, DIMS, PICTURES, POLICIES, FlowPolicy, TokenPolicy
from .tasks import TASKS
from .world import World

WEIGHTS = Path(__file__).parent / "weights"
_DEMOS = {"pick": 140, "belt": 360, "insert": 400}
_DAGGER = {"pick": 20, "belt": 50, "insert": 40}  # episodes per round
_BATCH, _RATE = 64, 2e-3
_FACTS = 8
_out = Console()

Net = TokenPolicy | FlowPolicy
Asked = tuple[str, int, str | None]  # a task, a seed, and who drives
_PORT = 29_517


@dataclass(frozen=True)
class Share:
    """One process's share of the work: every `ranks`-th thing from the `rank`-th on."""

    rank: int
    ranks: int

    def of(self, things: Any) -> Any:
        """Its share of a sequence."""
        return things[self.rank :: self.ranks]

    def meet(self) -> None:
        """Wait for the others."""
        if self.ranks > 1:
            distributed.barrier()

    def average(self, net: nn.Module) -> None:
        """The mean of all processes' gradients, in place."""
        if self.ranks == 1:
            return
        grads = [one.grad for one in net.parameters() if one.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads])
        distributed.all_reduce(flat)
        at = 0
        for grad in grads:
            grad.copy_(flat[at : at + grad.numel()].reshape(grad.shape) / self.ranks)
            at += grad.numel()


class Samples:
    """Samples in memory, drawn in batches."""

    def __init__(self) -> None:
        self._rows: list[Observation] = []

    def __len__(self) -> int:
        return len(self._rows)

    def extend(self, rows: list[Observation]) -> None:
        """Take samples in."""
        self._rows += rows

    def batch(self, numbers: np.random.Generator, share: Share) -> dict[str, torch.Tensor]:
        """A share of what is drawn; pictures a little brighter or darker, with some noise."""
        drawn, gains = (
            numbers.integers(len(self._rows), size=_BATCH),
            numbers.uniform(0.85, 1.15, _BATCH),
        )
        rows = [self._rows[index] for index in share.of(drawn)]
        made = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        gain = torch.from_numpy(share.of(gains).astype(np.float32))[:, None, None, None]
        for name in PICTURES:
            noise = torch.randn(1, *made[name].shape[1:]) * float(numbers.uniform(0, 8))
            made[name] = (made[name] * gain + noise).clamp(0, 255)
        return made

    def write(self, path: Path) -> None:
        """Keep all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        columns = {name: np.stack([row[name] for row in self._rows]) for name in self._rows[0]}
        np.savez(part, **columns)  # type: ignore[arg-type]  # none is called allow_pickle
        os.replace(part, path)

    def read(self, path: Path) -> None:
        """Take in what was kept."""
        with np.load(path) as kept:
            columns = {name: kept[name] for name in kept.files}
        for row in range(len(columns["state"])):
            self._rows.append({name: column[row] for name, column in columns.items()})

    def states(self) -> np.ndarray:
        """Proprioception of all samples."""
        return np.stack([row["state"] for row in self._rows])


class Pair(nn.Module):
    """Both policies over one prefix, and what the prefix says of the scene."""

    def __init__(self) -> None:
        super().__init__()
        tokens, flow = TokenPolicy(), FlowPolicy()
        flow.prefix = tokens.prefix
        self.nets = nn.ModuleDict({"tokens": tokens, "flow": flow})
        self.told = nn.Linear(2 * tokens.config.width, _FACTS)

    def normalise(self, states: np.ndarray) -> None:
        """Take proprioception's mean and deviation from samples."""
        for net in self.nets.values():
            assert isinstance(net, TokenPolicy | FlowPolicy)
            net.mean.copy_(torch.from_numpy(states.mean(0)))
            net.deviation.copy_(torch.from_numpy(states.std(0) + 1e-3))

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and what it is made of: tokens, flow, scene."""
        net: Any = self.nets["tokens"]
        seen = net.prefix.see(*(batch[name] for name in PICTURES))
        keys, values = net.known(seen, batch["words"], batch["state"])
        last = torch.cat([keys[:, -1, :, -1].flatten(1), values[:, -1, :, -1].flatten(1)], 1)
        scene = (self.told(last) - batch["facts"]).abs().clamp(max=4).mean()
        parts = [one.loss(batch, keys, values) for one in self.nets.values()]  # type: ignore[operator]
        return parts[0] + parts[1] + scene, torch.stack([*parts, scene]).detach()


def actor_of(net: Net):  # type: ignore[no-untyped-def]
    """A policy as what drives an episode."""

    def act(observation: Observation, numbers: np.random.Generator) -> np.ndarray:
        given = {name: torch.from_numpy(array) for name, array in observation.items()}
        if isinstance(net, FlowPolicy):
            noise = numbers.normal(size=(CHUNK, DIMS)).astype(np.float32)
            given["noise"] = torch.from_numpy(noise)
        with torch.inference_mode():
            return np.asarray(net.act(given).numpy())

    return act


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes:
        tasks: that are learnt.
        scale: share of the episodes.
        steps: of AdamW a round; the first has twice as many, and as many more come at the end.
        rounds: of DAgger.
        seed: of everything.
    """

    tasks: tuple[str, ...]
    scale: float
    steps: int
    rounds: int
    seed: int

    def asked(self, turn: int) -> list[Asked]:
        """The episodes of a round, mixed so that every process has its share of each task."""
        return [
            (task, 10_000 * turn + index, list(POLICIES)[index // 2 % 2] if turn else None)
            for task in self.tasks
            for index in range(max(4, round(self.scale * (_DAGGER if turn else _DEMOS)[task])))
        ]


def fill(effort: Effort, turn: int, share: Share, folder: Path, weights: Path) -> str:
    """Gather a share of a round's episodes into a folder; what succeeded, in words."""
    worlds = {task: World(TASKS[task].xml) for task in effort.tasks}
    actors = {name: actor_of(load(name, weights)) for name in POLICIES} if turn else {}
    won: dict[str, list[bool]] = {}
    samples = Samples()
    for task, seed, name in share.of(effort.asked(turn)):
        if name is None:
            samples.extend(demonstrate(task, worlds[task], seed))
            continue
        rows, good = gather(task, worlds[task], seed, actors[name])
        samples.extend(rows)
        won.setdefault(f"{task} {name}", []).append(good)
    samples.write(folder / f"samples{share.rank}.npz")
    for world in worlds.values():
        world.close()
    return ", ".join(f"{key} {sum(all_)} of {len(all_)}" for key, all_ in won.items())


def fit(pair: Pair, samples: Samples, steps: int, rate: float, seed: int, share: Share) -> str:
    """Some steps of AdamW with the rate falling to nothing; the mean losses of the last tenth."""
    torch.manual_seed(seed)
    numbers = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(pair.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    losses = []
    for _ in range(steps):
        loss, parts = pair(samples.batch(numbers, share))
        optimizer.zero_grad()
        loss.backward()
        share.average(pair)
        torch.nn.utils.clip_grad_norm_(pair.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(parts)
        if share.rank == 0 and len(losses) % 100 == 0:
            _out.print(f"  {len(losses)}: {torch.stack(losses[-100:]).mean(0).tolist()}")
    tokens, flow, scene = torch.stack(losses[-max(1, steps // 10) :]).mean(0).tolist()
    return f"{steps} steps, tokens {tokens:.3f}, flow {flow:.4f}, scene {scene:.4f}"


def train(effort: Effort, weights: Path, keep: Path, share: Share) -> None:
    """Train both policies; weights are written after every round."""
    torch.set_num_threads(1)
    if share.ranks > 1:
        address = f"tcp://127.0.0.1:{_PORT}"
        distributed.init_process_group("gloo", address, rank=share.rank, world_size=share.ranks)
    torch.manual_seed(effort.seed)
    began, samples, pair = time.monotonic(), Samples(), Pair()

    def say(what: str) -> None:
        line = f"{time.monotonic() - began:5.0f} s, {len(samples)} samples: {what}"
        _out.print(line, soft_wrap=True)

    def write(turn: int) -> None:
        if share.rank == 0:
            for name, net in pair.nets.items():
                save(net, weights / f"{name}.safetensors")
            every = {key: value.clone() for key, value in pair.state_dict().items()}
            save_file(every, keep / f"round{turn}" / "pair.safetensors")
        share.meet()

    for turn in range(effort.rounds + 1):
        folder = keep / f"round{turn}"
        if not (folder / f"samples{share.rank}.npz").is_file():
            say(f"round {turn}: {fill(effort, turn, share, folder, weights)}")
        share.meet()
        for rank in range(share.ranks):
            samples.read(folder / f"samples{rank}.npz")
        if turn == 0:
            pair.normalise(samples.states())
        if (folder / "pair.safetensors").is_file():
            pair.load_state_dict(load_file(folder / "pair.safetensors"))
            continue
        steps = effort.steps * (1 if turn else 2)
        seed = 1000 * effort.seed + turn
        say(fit(pair, samples, steps, _RATE * (0.7 if turn else 1), seed, share))
        write(turn)
    seed = 1000 * effort.seed + effort.rounds + 1
    say(fit(pair, samples, 2 * effort.steps, 0.7 * _RATE, seed, share))
    write(effort.rounds + 1)


def save(net: nn.Module, path: Path) -> None:
    """Write weights in float16."""
    path.parent.mkdir(exist_ok=True, parents=True)
    half = {key: value.to(torch.float16).contiguous() for key, value in net.state_dict().items()}
    fresh = path.with_suffix(".part")
    save_file(half, fresh)
    os.replace(fresh, path)


def load(name: str, weights: Path = WEIGHTS) -> Net:
    """A trained policy, in float32."""
    net = POLICIES[name]()
    read = load_file(weights / f"{name}.safetensors")
    net.load_state_dict({key: value.to(torch.float32) for key, value in read.items()})
    return net.eval()


def _rank(rank: int, effort: Effort, weights: Path, keep: Path, ranks: int) -> None:
    train(effort, weights, keep, Share(rank, ranks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+", choices=sorted(TASKS))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the episodes")
    parser.add_argument("--steps", type=int, default=400, help="of AdamW, a round")
    parser.add_argument("--rounds", type=int, default=2, help="of DAgger")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=2, help="processes")
    parser.add_argument(
        "--rank", type=int, help="only this process; the others are started so, too"
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder to write to")
    parser.add_argument("--keep", type=Path, required=True, help="folder for rounds that are done")
    given = parser.parse_args()
    effort = Effort(tuple(given.tasks), given.scale, given.steps, given.rounds, given.seed)
    if given.rank is not None:
        _rank(given.rank, effort, given.weights, given.keep, given.ranks)
        return
    others = (effort, given.weights, given.keep, given.ranks)
    processes = [
        get_context("spawn").Process(target=_rank, args=(rank, *others))
        for rank in range(given.ranks)
    ]
    for one in processes:
        one.start()
    for one in processes:
        one.join()
    raise SystemExit(max(abs(one.exitcode or 0) for one in processes))


if __name__ == "__main__":
    main()
