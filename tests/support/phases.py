"""A policy that a builder made, run in torch: its phases in order, with their trips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from vlacut.frontends.built import Built


@contextmanager
def one_thread() -> Iterator[None]:
    """Small products on one processor: on a busy machine threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(built: Built, observation: Mapping[str, Tensor]) -> Tensor:
    """The policy's action for an observation, by the robot's names."""
    values = dict(observation)
    with torch.no_grad(), one_thread():
        for phase in built.phases:
            for _ in range(phase.trips):
                given = [values[name] for name in phase.inputs]
                made = getattr(phase.module, phase.method)(*given)
                made = made if isinstance(made, (tuple, list)) else [made]
                values.update(zip(phase.outputs, made, strict=True))
                values.update({fed: values[name] for name, fed in phase.carried.items()})
    return values["action"]
