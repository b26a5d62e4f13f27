"""The state as words of the prompt, put together in the program: tables, sums and comparisons."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vlacut.frontends.prompts.written import BINS, WrittenState


class Words(nn.Module):
    """A prompt with the state in it, padded at its right with zeros.

    Args:
        written: its tokens.
        length: with padding; what is longer is cut.
    """

    head: Tensor
    pieces: Tensor
    lengths: Tensor
    tail: Tensor
    edges: Tensor

    def __init__(self, written: WrittenState, length: int) -> None:
        super().__init__()
        self._length = length
        for name in ("head", "pieces", "lengths", "tail"):
            self.register_buffer(name, torch.from_numpy(getattr(written, name)))
        edges = np.linspace(-1, 1, BINS + 1)[:-1].astype(np.float32)
        self.register_buffer("edges", torch.from_numpy(edges))

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """A normalised state [1, n] to tokens, int64 [1, length], and which are no padding."""
        values = (state[0][:, None] >= self.edges).to(torch.int64).sum(dim=1)
        counts = self.lengths[values]
        begins = self.head.shape[0] + counts.cumsum(dim=0) - counts
        inside = torch.arange(self.pieces.shape[1])
        places = torch.where(inside < counts[:, None], begins[:, None] + inside, -1)
        total = self.head.shape[0] + counts.sum()
        ends = total + torch.arange(self.tail.shape[0])
        heads = torch.arange(self.head.shape[0])
        where = torch.cat([heads, places.flatten(), ends])
        which = torch.cat([self.head, self.pieces[values].flatten(), self.tail])
        slots = torch.arange(self._length)
        there = (where[:, None] == slots).to(torch.int64)
        tokens = (there * which[:, None]).sum(dim=0)
        return tokens[None], (slots < total + self.tail.shape[0])[None]
