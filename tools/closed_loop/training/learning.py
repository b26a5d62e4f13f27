"""A policy that learns: what is taught, and the steps of it."""

from __future__ import annotations

import numpy as np
import torch
from rich.console import Console
from torch import nn

from ..policies.heads import Net
from ..policies.policy import PICTURES
from ..policies.touching import TouchPolicy
from .samples import Samples, Share

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

    def normalise(self, samples: Samples) -> None:
        """Take the mean and deviation of what the arm says from samples."""
        states = samples.all_of("state")
        self.net.mean.copy_(torch.from_numpy(states.mean(0)))
        self.net.deviation.copy_(torch.from_numpy(states.std(0) + 1e-3))
        if isinstance(self.net, TouchPolicy):
            torques = samples.all_of("torques")
            self.net.usual.copy_(torch.from_numpy(torques.mean(0)))
            self.net.spread.copy_(torch.from_numpy(torques.std(0) + 1e-3))

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and what it is made of: commands, scene."""
        prefix = self.net.prefix
        with torch.set_grad_enabled(not self._lent):
            seen = prefix.see(*(batch[name] for name in PICTURES))
            own = self.net.given(batch)
            keys, values, guess = prefix(seen, batch["words"], own)
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
