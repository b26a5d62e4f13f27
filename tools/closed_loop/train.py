"""Trains the bench's policies by imitation of the scripted experts, with DAgger.

    python -m tools.closed_loop.train pick belt --keep rounds

`flow` learns first, together with the prefix; it drives the episodes of DAgger, which the expert
labels. `tokens` has that prefix as it is, and learns its head from the same samples. The prefix
also learns to say what the expert knows of the scene, which pictures only show; nobody tells it
when it drives. Weights go to `tools/closed_loop/weights/NAME.safetensors` in float16. The same
seed, the same number of processes and the same versions give the same weights on the same machine.
Processes share the work: each gathers its share of a round's episodes into `--keep`, and learns
from its share of every batch. A run that was stopped goes on after the last round kept there.
"""

from __future__ import annotations

import argparse
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import nn

from .gathering import Effort, fill
from .heads import FlowPolicy, Net, TokenPolicy, save
from .policy import PICTURES
from .samples import Samples, Share
from .tasks import TASKS

WEIGHTS = Path(__file__).parent / "weights"
_RATE = 2e-3
_FAR = 4.0  # of a fact: what is further off is as bad
_out = Console()


class Learner(nn.Module):
    """A policy that learns, and its prefix with it unless that is another's.

    Args:
        net: the policy.
        lent: whether its prefix stays as it is.
    """

    def __init__(self, net: Net, lent: bool = False) -> None:
        super().__init__()
        self.net, self._lent = net, lent
        net.prefix.requires_grad_(not lent)

    def normalise(self, states: np.ndarray) -> None:
        """Take proprioception's mean and deviation from samples."""
        self.net.mean.copy_(torch.from_numpy(states.mean(0)))
        self.net.deviation.copy_(torch.from_numpy(states.std(0) + 1e-3))

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and what it is made of: commands, scene."""
        prefix = self.net.prefix
        with torch.set_grad_enabled(not self._lent):
            seen = prefix.see(*(batch[name] for name in PICTURES))
            normal = self.net.normal(batch["state"])
            keys, values, guess = prefix(seen, batch["words"], normal)
        scene = (guess - batch["facts"]).abs().clamp(max=_FAR).mean()
        commands = self.net.loss(batch, keys, values)
        return commands + scene, torch.stack([commands, scene]).detach()


def fit(
    learner: Learner, samples: Samples, steps: int, rate: float, seed: int, share: Share
) -> str:
    """Some steps of AdamW with the rate falling to nothing; the mean losses of the last tenth."""
    torch.manual_seed(seed)
    numbers = np.random.default_rng(seed)
    taught = [one for one in learner.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(taught, lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    losses = []
    for _ in range(steps):
        loss, parts = learner(samples.batch(numbers, share))
        optimizer.zero_grad()
        loss.backward()
        share.average(learner)
        torch.nn.utils.clip_grad_norm_(taught, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(parts)
        if share.rank == 0 and len(losses) % 100 == 0:
            _out.print(f"  {len(losses)}: {torch.stack(losses[-100:]).mean(0).tolist()}")
    commands, scene = torch.stack(losses[-max(1, steps // 10) :]).mean(0).tolist()
    return f"{steps} steps, commands {commands:.4f}, scene {scene:.4f}"


def train(effort: Effort, weights: Path, keep: Path, share: Share) -> None:
    """Train both policies; weights are written after every round."""
    torch.set_num_threads(1)
    share.begin()
    torch.manual_seed(effort.seed)
    began, samples, learner = time.monotonic(), Samples(), Learner(FlowPolicy())

    def say(what: str) -> None:
        line = f"{time.monotonic() - began:5.0f} s, {len(samples)} samples: {what}"
        _out.print(line, soft_wrap=True)

    for turn in effort.turns:
        folder = keep / f"round{turn}"
        if not (folder / f"samples{share.rank}.npz").is_file():
            say(f"round {turn}: {fill(effort, turn, share, folder, weights)}")
        share.meet()
        for rank in range(share.ranks):
            samples.read(folder / f"samples{rank}.npz")
        if turn == 0:
            learner.normalise(samples.states())
        if not (folder / "flow.safetensors").is_file():
            rate = _RATE * (0.7 if turn else 1)
            seed = 1000 * effort.seed + turn
            say("flow " + fit(learner, samples, effort.taken(turn), rate, seed, share))
            _write("flow", learner.net, weights, folder, share)
        learner.net.load_state_dict(load_file(folder / "flow.safetensors"))
    torch.manual_seed(effort.seed)
    tokens = TokenPolicy()
    tokens.load_state_dict({**tokens.state_dict(), **_shared(learner.net)})
    steps, seed = effort.taken(0), 1000 * effort.seed + len(effort.turns)
    say("tokens " + fit(Learner(tokens, True), samples, steps, _RATE, seed, share))
    _write("tokens", tokens, weights, keep / "tokens", share)


def _shared(net: Net) -> dict[str, torch.Tensor]:
    """The prefix, and what proprioception is normalised by."""
    names = ("prefix.", "mean", "deviation")
    return {key: value for key, value in net.state_dict().items() if key.startswith(names)}


def _write(name: str, net: Net, weights: Path, folder: Path, share: Share) -> None:
    """To be run with, in float16; and to go on from, as they are."""
    if share.rank == 0:
        save(net, weights / f"{name}.safetensors")
        folder.mkdir(parents=True, exist_ok=True)
        every = {key: value.clone() for key, value in net.state_dict().items()}
        save_file(every, folder / f"{name}.safetensors")
    share.meet()


def _rank(rank: int, effort: Effort, weights: Path, keep: Path, ranks: int) -> None:
    train(effort, weights, keep, Share(rank, ranks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+", choices=sorted(TASKS))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the episodes")
    parser.add_argument("--steps", type=int, default=1000, help="of AdamW, a round")
    parser.add_argument("--rounds", type=int, default=4, help="of DAgger")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=1, help="processes")
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
