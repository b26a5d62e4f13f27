"""A first look: what a bundle makes of the robot's first observation, beside its checkpoint.

Where that is at hand, LeRobot's own policy makes a chunk of the same observation and noise. If the
two differ by more than is allowed, the robot goes on with LeRobot's, and the log says so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vlacut.frontends.standalone import vlacut_lerobot

Batch = Mapping[str, Tensor]

log = logging.getLogger("vlacut.lerobot")


class Original:
    """LeRobot's own policy of a checkpoint, with its own steps around it.

    Args:
        folder: the checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        from lerobot.configs.policies import PreTrainedConfig
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors

        config = PreTrainedConfig.from_pretrained(folder)
        self.policy = get_policy_class(config.type).from_pretrained(folder).eval()
        self.policy.reset()
        self._before, self._after = make_pre_post_processors(config, pretrained_path=str(folder))

    def reset(self) -> None:
        """Begin an episode."""
        self.policy.reset()

    @torch.no_grad()
    def __call__(
        self, seen: Sequence[Batch], noise: Mapping[str, np.ndarray] | None = None
    ) -> Tensor:
        """A chunk, float32 [1, horizon, n], for the last batches as the robot gives them."""
        given = {name: torch.from_numpy(one) for name, one in (noise or {}).items()}
        ready = [self._before(dict(batch)) for batch in seen]
        made: Tensor = self._after(vlacut_lerobot.chunk_of(self.policy, ready, given))
        return made.float().cpu()


def original_of(folder: Path | None, digest: str) -> Original | None:
    """The policy of a checkpoint; None, with a line of the log, where it is not at hand.

    Args:
        folder: the checkpoint; None for no comparison.
        digest: of the one that was compiled; empty where nobody says.
    """
    if folder is None or not (folder / "config.json").is_file():
        log.info("no checkpoint at hand: the bundle's first actions are not compared with its own")
        return None
    if digest and vlacut_lerobot.digest_of(folder) != digest:
        log.warning(
            "%s is not the checkpoint any more that was compiled, and nothing is compared", folder
        )
        return None
    try:
        return Original(folder)
    # Whatever that code raises here, the bundle runs without it.
    except Exception as error:
        log.warning("the policy of %s cannot be loaded, and nothing is compared: %s", folder, error)
        return None


def chunk_of(
    original: Original, seen: Sequence[Batch], noise: Mapping[str, np.ndarray]
) -> Tensor | None:
    """Its chunk for the last batches; None, with a line of the log, where it makes none."""
    try:
        return original(seen, noise)
    # Whatever that code raises here, the bundle runs without it.
    except Exception as error:
        log.warning("LeRobot's own policy makes no chunk, and nothing is compared: %s", error)
        return None


def agree(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Whether two chunks are the same but for a share of the largest magnitude; the log says it."""
    if ours.shape != theirs.shape:
        log.error(
            "the bundle makes %s, and LeRobot's policy %s", *map(tuple, (ours.shape, theirs.shape))
        )
        return False
    difference, most = float((ours - theirs).abs().max()), float(theirs.abs().max())
    same = difference <= tolerance * most
    line = "the bundle's first actions differ from LeRobot's own by %.2g of %.2g; %.2g is allowed"
    if same:
        log.info(line, difference, most, tolerance * most)
    else:
        log.error(line + ": LeRobot's own policy drives on", difference, most, tolerance * most)
    return same
