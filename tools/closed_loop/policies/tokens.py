"""A head in OpenVLA's shape: the tokens of one action per trip, sixteen trips.

It learns commands as changes from one tick to the next, and adds them up from the command in force,
so that its chunk is absolute.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .policy import CHUNK, DIMS, PICTURES, Config, Policy, of_labelled

BINS = 64


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
