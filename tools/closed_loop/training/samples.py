"""Samples that policies learn from, and one process's share of the work on them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from ..policies.policy import PICTURES
from .episodes import Observation

BATCH = 64
_LABELLED, _SCATTERED = 44, 10  # of a batch; where none is scattered, any others in their place
_PORT = 29_517


@dataclass(frozen=True)
class Share:
    """One process's share of the work: every `ranks`-th thing from the `rank`-th on."""

    rank: int
    ranks: int

    def begin(self) -> None:
        """Find the other processes."""
        if self.ranks > 1:
            address = f"tcp://127.0.0.1:{_PORT}"
            distributed.init_process_group("gloo", address, rank=self.rank, world_size=self.ranks)

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
        self._labelled: list[int] = []
        self._scattered: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    def extend(self, rows: list[Observation]) -> None:
        """Take samples in."""
        first = len(self._rows)
        self._labelled += [first + at for at, row in enumerate(rows) if row["labelled"]]
        if not any(row["labelled"] for row in rows):
            self._scattered += range(first, first + len(rows))
        self._rows += rows

    def batch(self, numbers: np.random.Generator, share: Share) -> dict[str, torch.Tensor]:
        """A share of what is drawn; pictures a little brighter or darker, with some noise."""
        some = numbers.integers(len(self._labelled), size=_LABELLED)
        others = numbers.integers(len(self._rows), size=BATCH - _LABELLED)
        if self._scattered:
            others[:_SCATTERED] = numbers.choice(self._scattered, _SCATTERED)
        drawn = np.concatenate([np.array(self._labelled)[some], others])
        gains = numbers.uniform(0.85, 1.15, BATCH)
        rows = [self._rows[index] for index in share.of(drawn)]
        made = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        gain = torch.from_numpy(share.of(gains).astype(np.float32))[:, None, None, None]
        for name in PICTURES:
            noise = torch.randn(1, *made[name].shape[1:]) * float(numbers.uniform(0, 8))
            made[name] = made[name].to(torch.float32).mul_(gain).add_(noise)
        return made

    def write(self, path: Path) -> None:
        """Keep all, if there are any."""
        if not self._rows:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        columns = {name: np.stack([row[name] for row in self._rows]) for name in self._rows[0]}
        np.savez(part, **columns)  # type: ignore[arg-type]  # none is called allow_pickle
        os.replace(part, path)

    def read(self, path: Path) -> None:
        """Take in what was kept there, if there is anything."""
        if not path.is_file():
            return
        with np.load(path) as kept:
            columns = {name: kept[name] for name in kept.files}
        count = len(columns["state"])
        self.extend(
            [{name: column[row] for name, column in columns.items()} for row in range(count)]
        )

    def all_of(self, name: str) -> np.ndarray:
        """A column, of all samples."""
        return np.stack([row[name] for row in self._rows])
