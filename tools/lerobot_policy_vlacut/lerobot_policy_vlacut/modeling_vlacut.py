"""`VlacutPolicy`: LeRobot asks it for actions, and a session of vlacut's makes them."""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from torch import Tensor

import vlacut
from lerobot_policy_vlacut.configuration_vlacut import VlacutConfig
from lerobot_policy_vlacut.continuing import Continuing
from lerobot_policy_vlacut.first_look import Original, agree, chunk_of, original_of
from vlacut.integrations.openpi.policy import OpenpiPolicy

log = logging.getLogger("vlacut.lerobot")


class VlacutPolicy(PreTrainedPolicy):
    """A bundle as a policy. It has no weights of its own: the bundle has them.

    A step that fails or is late gives the last actions again, as `OpenpiPolicy` says. Its first
    actions are compared with those of the checkpoint's own policy, see `first_look`.
    """

    config_class = VlacutConfig
    name = "vlacut"

    def __init__(self, config: VlacutConfig, folder: Path = Path(), **_: Any) -> None:
        super().__init__(config)
        config.validate_features()
        self.config = config
        options = {"deadline": config.deadline_s, "tls": config.tls or None, "seed": config.seed}
        self._session = vlacut.connect(folder / config.bundle, config.cloud or None, **options)
        self._steps = OpenpiPolicy(self._session)
        self._inputs = {one.name: one for one in self._session.plan.inputs}
        self._continuing = Continuing(self._inputs)
        self._queue: deque[Tensor] = deque()
        self._recent: deque[dict[str, Tensor]] = deque(maxlen=config.n_obs_steps)
        # Loaded now, for the robot waits in its first tick.
        there = folder / config.checkpoint if config.checkpoint else None
        self._compared: Original | None = original_of(there, config.checkpoint_digest)
        self._instead: Original | None = None

    @classmethod
    def from_pretrained(
        cls, pretrained_name_or_path: str | Path, *, config: Any = None, **_: Any
    ) -> VlacutPolicy:
        """The policy of a folder with a `config.json`, and a bundle where that says."""
        folder = Path(pretrained_name_or_path)
        return cls(config or VlacutConfig.from_pretrained(folder), folder).eval()

    def reset(self) -> None:
        """Begin an episode."""
        self._queue.clear()
        self._recent.clear()
        self._steps.reset()
        if self._instead is not None:
            self._instead.reset()

    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: dict[str, Tensor],
        inference_delay: int = 0,
        prev_chunk_left_over: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """A chunk, float32 [1, horizon, n], for a batch of one.

        Args:
            batch: as LeRobot's preprocessor leaves it.
            inference_delay: commands that are played meanwhile.
            prev_chunk_left_over: those of the last chunk from the one of now on, [n, width]; a
                bundle compiled with `--real-time-chunking` continues them.
        """
        self._see(batch)
        settings = getattr(self.config, "rtc_config", None)
        left = prev_chunk_left_over if settings is not None else None
        return self._chunk(self._continuing.inputs(left, inference_delay, settings))

    def _see(self, batch: dict[str, Tensor]) -> None:
        """Keep an observation; the first of an episode stands for those before it, too."""
        self._recent.append(dict(batch))
        while len(self._recent) < self.config.n_obs_steps:
            self._recent.append(dict(batch))

    def _chunk(self, told: dict[str, np.ndarray]) -> Tensor:
        if self._instead is not None:
            return self._instead(self._recent)
        sent = {name: self._sent(name) for name in self._inputs if name in self._recent[-1]} | told
        original, self._compared = self._compared, None
        drawn = self._drawn() if original is not None else {}
        made = self._steps.infer({**sent, **drawn})
        actions = torch.from_numpy(np.ascontiguousarray(made["actions"], np.float32))[None]
        if original is None:
            return actions
        theirs = chunk_of(original, self._recent, drawn)
        if theirs is None or agree(actions, theirs, self.config.tolerance):
            return actions
        self._instead = original
        return theirs

    def _drawn(self) -> dict[str, np.ndarray]:
        """The bundle's noise, so that both are given the same."""
        numbers = np.random.default_rng(self.config.seed)
        return {
            one.input: numbers.standard_normal(self._inputs[one.input].shape, np.float32)
            for one in self._session.plan.noise
        }

    def _sent(self, name: str) -> np.ndarray:
        """An input of the bundle, of the observations that it reads."""
        raw = [self._raw(name, batch[name]) for batch in self._recent]
        return np.stack(raw) if len(raw) > 1 else raw[0]

    def _raw(self, name: str, tensor: Tensor) -> np.ndarray:
        """A tensor as the robot had it: LeRobot has divided pictures by 255 and turned them."""
        if len(tensor) != 1:
            raise ValueError(f"{name}: a bundle drives one robot, and the batch is {len(tensor)}")
        one = tensor[0].cpu()
        if self._inputs[name].dtype == "uint8" and one.is_floating_point():
            one = (one * 255).round().to(torch.uint8).permute(1, 2, 0)
        return one.contiguous().numpy()

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], **_: Any) -> Tensor:
        """The next command, [1, n]."""
        self._see(batch)
        if not self._queue:
            made = self._chunk(self._continuing.nothing())
            self._queue.extend(made[:, : self.config.n_action_steps].unbind(1))
        return self._queue.popleft()

    def supports_rtc(self) -> bool:
        """Whether LeRobot may ask for a chunk while it plays one, as real-time chunking does.

        Not of a policy that reads several observations: LeRobot shows it one a chunk then, and they
        would be as far apart as chunks are.
        """
        if self.config.n_obs_steps > 1:
            log.error(
                "the policy reads %d observations, and real-time chunking shows it one a chunk: "
                "run it with --inference.type=sync",
                self.config.n_obs_steps,
            )
        return bool(self.config.n_obs_steps == 1)

    def init_rtc_processor(self) -> None:
        """LeRobot has set `config.rtc_config`: say whether chunks will continue each other."""
        if self._continuing.can:
            log.info("real-time chunking: each chunk continues the commands that are left")
        else:
            log.warning(
                "real-time chunking without guidance: the bundle takes no chunk in force, and may "
                "jump where chunks meet; compile it with --real-time-chunking guided"
            )

    def get_optim_params(self) -> dict[str, Any]:
        return {}

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Any] | None]:
        raise NotImplementedError("a bundle is not trained; train its checkpoint")

    def close(self) -> None:
        """End the session."""
        self._session.close()
