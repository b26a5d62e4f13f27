"""The heads of two policies in the shape of VLAs.

`TokenPolicy` decodes the tokens of one action per trip, sixteen trips, as OpenVLA decodes those of
one action; `FlowPolicy` turns noise into a chunk in ten steps, as pi0 does. Both learn commands as
changes from one tick to the next, and add them up: the first from the command in force, so that its
chunk is absolute, the second from nothing, relative to that command.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from .policy import CHUNK, DIMS, PICTURES, Config, Policy

BINS = 64
STEPS = 10
_ADDED = 0.25  # weight of the error of places, against that of changes
_LATEST = 0.9  # time of the last of the steps


def of_labelled(losses: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """The mean of the losses `[B]` of those samples that have a chunk to learn from."""
    has = batch["labelled"]
    return (losses * has).sum() / has.sum().clamp(min=1)


class TokenPolicy(Policy):
    """The tokens of one action per trip: `BINS` bins for every dimension."""

    offsets: Tensor

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        width = self.config.width
        self.embeddings = nn.Parameter(0.02 * torch.randn(DIMS * BINS + 1, width))
        self.logits = nn.Linear(width, DIMS * BINS)
        self.register_buffer("offsets", torch.arange(DIMS) * BINS, persistent=False)

    def tokens_of(self, commands: Tensor, state: Tensor) -> Tensor:
        """Bins of a batch of chunks, `[B, 16, 5]`."""
        changes = self.changes_of(commands, state)
        low = torch.tensor([-1.0, -1.0, -1.0, -1.0, 0.0])
        share = (changes - low) / (1.0 - low)
        return (share.clamp(0, 1) * (BINS - 1)).round().long()

    def embed(self, tokens: Tensor) -> Tensor:
        """Rows `[..., width]` of the tokens of actions `[..., 5]`."""
        return self.embeddings[tokens + self.offsets].sum(-2)

    def loss(self, batch: dict[str, Tensor], keys: Tensor, values: Tensor) -> Tensor:
        """Cross entropy with the expert's tokens, all trips at once."""
        wanted = self.tokens_of(batch["chunk"], batch["state"])
        start = self.embeddings[-1].expand(len(wanted), 1, -1)
        x = torch.cat([start, self.embed(wanted[:, :-1])], 1) + self.rows
        prefix = keys.shape[3]
        mask = torch.ones(CHUNK, prefix + CHUNK, dtype=torch.bool).tril(prefix)
        for index, layer in enumerate(self.head):
            x, _, _ = layer(x, keys[:, index], values[:, index], mask)
        logits = self.logits(x).reshape(*x.shape[:2], DIMS, BINS)
        near = F.one_hot(wanted, BINS).to(logits.dtype)
        # Neighbouring bins are nearly right.
        soft = 0.8 * near + 0.1 * near.roll(1, -1) + 0.1 * near.roll(-1, -1)
        off = -(soft * logits.log_softmax(-1)).sum(-1)
        return of_labelled(off.mean((1, 2)), batch)

    def prefill(self, seen: Tensor, tokens: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        """Phase: the caches with room for all trips, the first row, where it goes, and no doubt."""
        keys, values = self.known(seen, tokens[None], state[None])
        room = torch.zeros(1, *keys.shape[1:3], CHUNK, keys.shape[4])
        chunk = torch.zeros(CHUNK, DIMS)
        step = torch.zeros(1, dtype=torch.int64)
        keys, values = torch.cat([keys, room], 3), torch.cat([values, room], 3)
        return keys, values, self.embeddings[-1][None], step, chunk, torch.zeros(1)

    def decode(
        self,
        keys: Tensor,
        values: Tensor,
        row: Tensor,
        step: Tensor,
        chunk: Tensor,
        doubts: Tensor,
    ) -> tuple[Tensor, ...]:
        """Phase, sixteen trips: the tokens of one action; caches, row, place, chunk go on, and the
        entropies of the tokens so far.
        """
        prefix = keys.shape[3] - CHUNK
        at = torch.arange(CHUNK) == step
        x = row[:, None] + (self.rows * at[:, None]).sum(0)
        mask = torch.cat([torch.ones(prefix, dtype=torch.bool), torch.arange(CHUNK) < step])
        mask = torch.cat([mask, torch.ones(1, dtype=torch.bool)])[None]
        here = torch.cat([torch.zeros(prefix, dtype=torch.bool), at])[None, None, :, None]
        new_keys, new_values = [], []
        for index, layer in enumerate(self.head):
            mine, yours = keys[:, index], values[:, index]
            x, k, v = layer(x, mine, yours, mask)
            new_keys.append(torch.where(here, k, mine))
            new_values.append(torch.where(here, v, yours))
        logits = self.logits(x).reshape(DIMS, BINS)
        tokens, chances = logits.argmax(-1), logits.log_softmax(-1)
        doubts = doubts - (chances.exp() * chances).sum(-1).mean()
        share = tokens.to(torch.float32) / (BINS - 1)
        low = torch.tensor([-1.0, -1.0, -1.0, -1.0, 0.0])
        action = (low + share * (1.0 - low)) * self.scale
        chunk = torch.where(at[:, None], action, chunk)
        keys, values = torch.stack(new_keys, 1), torch.stack(new_values, 1)
        return keys, values, self.embed(tokens)[None], step + 1, chunk, doubts

    def finish(self, chunk: Tensor, state: Tensor, doubts: Tensor) -> tuple[Tensor, Tensor]:
        """Phase: commands, `[16, 5]`, and the mean entropy of their tokens in nats, `[1]`."""
        return self.add_up(chunk, state), doubts / CHUNK

    def act(self, o: dict[str, Tensor]) -> Tensor:
        """A control step in one piece, as the phases make it."""
        seen = self.vision(*(o[name] for name in PICTURES))
        carried = self.prefill(seen, o["words"], o["state"])
        for _ in range(CHUNK):
            carried = self.decode(*carried)
        return self.finish(carried[4], o["state"], carried[5])[0]


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
        keys, values, places, t = self.prefill(seen, o["words"], o["state"], o["noise"])
        for _ in range(steps):
            places, t = self.euler(places, t, keys, values, steps)
        return torch.cat([places[:, :4] + o["state"][5:9], places[:, 4:]], 1)


Net = TokenPolicy | FlowPolicy
POLICIES: dict[str, type[TokenPolicy] | type[FlowPolicy]] = {
    "tokens": TokenPolicy,
    "flow": FlowPolicy,
}


def save(net: Net, path: Path) -> None:
    """Write weights in float16."""
    path.parent.mkdir(exist_ok=True, parents=True)
    half = {key: value.to(torch.float16).contiguous() for key, value in net.state_dict().items()}
    fresh = path.with_suffix(".part")
    save_file(half, fresh)
    os.replace(fresh, path)


def load(name: str, weights: Path) -> Net:
    """A trained policy, in float32."""
    net = POLICIES[name]()
    read = load_file(weights / f"{name}.safetensors")
    net.load_state_dict({key: value.to(torch.float32) for key, value in read.items()})
    return net.eval()
