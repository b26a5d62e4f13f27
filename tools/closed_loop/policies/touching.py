"""A flow that feels: besides what `flow.py` sees, the torques that contact costs the arm.

Its pictures have a pixel every 3 mm, and a peg is off by as much when the hole's edge stops it.
There the joints' torques, and how far the tool stays behind its command, say on which side.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .flow import STEPS, FlowPolicy
from .policy import PICTURES, TORQUES, Config

_LAG = 0.01  # m that the tool stays behind, as one
_LAGS = 3  # x, y, z


class TouchPolicy(FlowPolicy):
    """See the module's docstring."""

    usual: Tensor
    spread: Tensor

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(replace(config or Config(), felt=TORQUES + _LAGS))
        self.register_buffer("usual", torch.zeros(TORQUES))
        self.register_buffer("spread", torch.ones(TORQUES))

    def felt(self, state: Tensor, torques: Tensor) -> Tensor:
        """Proprioception `[B, 10]` and torques beyond gravity `[B, 7]`, N m, as the prefix takes
        them: `[B, 20]`.
        """
        behind = (state[:, 5:8] - state[:, :_LAGS]) / _LAG
        return torch.cat([self.normal(state), behind, (torques - self.usual) / self.spread], 1)

    def given(self, batch: dict[str, Tensor]) -> Tensor:
        """See `Policy`."""
        return self.felt(batch["state"], batch["torques"])

    def prefill(  # type: ignore[override]  # it takes one tensor more
        self, seen: Tensor, tokens: Tensor, state: Tensor, torques: Tensor, noise: Tensor
    ) -> tuple[Tensor, ...]:
        """Phase: keys and values, where denoising begins, and when."""
        own = self.felt(state[None], torques[None])
        keys, values, _ = self.prefix(seen, tokens[None], own)
        return keys, values, self.to_places(noise), torch.zeros(1)

    def act(self, o: dict[str, Tensor], steps: int = STEPS) -> Tensor:
        """See `FlowPolicy`."""
        seen = self.vision(*(o[name] for name in PICTURES))
        known = (o["words"], o["state"], o["torques"], o["noise"])
        return self.from_prefix(self.prefill(seen, *known), o["state"], steps)
