"""A head in pi0's shape: noise becomes a chunk in ten steps.

It learns commands as changes from one tick to the next, and adds them up from nothing, so that its
chunk is relative to the command in force.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .policy import DIMS, PICTURES, Config, Policy, of_labelled

STEPS = 10
_ADDED = 0.25  # weight of the error of places, against that of changes
_LATEST = 0.9  # time of the last of the steps


class FlowPolicy(Policy):
    """Noise to a chunk along a learnt velocity, by Euler's method."""

    waves: Tensor

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        width = self.config.width
        self.into, self.out = nn.Linear(DIMS, width), nn.Linear(width, DIMS)
        self.time = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        self.register_buffer("waves", 2.0 ** torch.arange(8) * torch.pi, persistent=False)

    def clean(self, x: Tensor, t: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What noisy chunks `[B, 16, 5]` at times `[B]` are on the way to.

        The velocity is the way there over the time that is left. So the last step ends there, and
        nothing of the noise is the network's to hand through.
        """
        angles = t[:, None] * self.waves
        time = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        h = self.into(x) + self.rows + time[:, None]
        for index, layer in enumerate(self.head):
            h, _, _ = layer(h, keys[:, index], values[:, index], None)
        made: Tensor = self.out(h)
        return made

    def loss(self, batch: dict[str, Tensor], keys: Tensor, values: Tensor) -> Tensor:
        """Flow matching (Lipman et al. 2023) from noise at 0 to the chunk at 1.

        The least of any weighted square of the error is at the same mean. Changes that are off by
        a little all the same way end far off, so their sums count as well; and early times count
        more, where nearly all is decided.
        """
        wanted = self.changes_of(batch["chunk"], batch["state"])
        wanted = torch.cat([wanted[..., :4], 2 * wanted[..., 4:] - 1], -1)
        noise, t = torch.randn_like(wanted), _LATEST * torch.rand(len(wanted)) ** 2
        x = (1 - t[:, None, None]) * noise + t[:, None, None] * wanted
        off = self.clean(x, t, keys, values) - wanted
        added = off[..., :4].cumsum(1).square().mean((1, 2))
        return of_labelled(off.square().mean((1, 2)) + _ADDED * added, batch)

    def prefill(
        self, seen: Tensor, tokens: Tensor, state: Tensor, noise: Tensor
    ) -> tuple[Tensor, ...]:
        """Phase: keys and values, where denoising begins, and when."""
        keys, values = self.known(seen, tokens[None], state[None])
        return keys, values, self.to_places(noise), torch.zeros(1)

    def denoise(
        self, places: Tensor, t: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, ...]:
        """Phase, ten trips: one step of Euler's; the chunk and its time go on."""
        return self.euler(places, t, keys, values, STEPS)

    def euler(
        self, places: Tensor, t: Tensor, keys: Tensor, values: Tensor, steps: int
    ) -> tuple[Tensor, ...]:
        """One of so many steps.

        The loop carries places relative to the command in force, `[16, 5]`, since that is what the
        robot continues (`vlacut.control.rtc`); the network's are changes, and all is linear.
        """
        ahead = torch.diff(places[:, :4], dim=0, prepend=torch.zeros(1, 4))
        changes = torch.cat([ahead / self.scale[:4], places[:, 4:]], 1)
        moved = (self.clean(changes[None], t, keys, values)[0] - changes) / (1 - t)
        return places + self.to_places(moved) / steps, t + 1 / steps

    def to_places(self, changes: Tensor) -> Tensor:
        """Places relative to the command in force, from changes in units of `SCALE`."""
        moved = torch.cumsum(changes[:, :4] * self.scale[:4], 0)
        return torch.cat([moved, changes[:, 4:]], 1)

    def act(self, o: dict[str, Tensor], steps: int = STEPS) -> Tensor:
        """Commands `[16, 5]` in one piece, by phases made so in `STEPS`; grips are -1 to 1."""
        seen = self.vision(*(o[name] for name in PICTURES))
        made = self.prefill(seen, o["words"], o["state"], o["noise"])
        return self.from_prefix(made, o["state"], steps)

    def from_prefix(self, made: tuple[Tensor, ...], state: Tensor, steps: int) -> Tensor:
        """Commands from what `prefill` made."""
        keys, values, places, t = made
        for _ in range(steps):
            places, t = self.euler(places, t, keys, values, steps)
        return torch.cat([places[:, :4] + state[5:9], places[:, 4:]], 1)
