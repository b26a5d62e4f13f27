"""LeRobot's own policy, step by step: run by the Python that has LeRobot, and needs nothing else.

    python vlacut_lerobot.py DIR TASK

Over standard input and output: 8 bytes of length, little endian, then that many of an .npz file.
First it says `version`, that of `transformers`, and `precision`; then each observation is answered
by `action` or `error`.
What LeRobot prints goes to standard error.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from typing import IO, Any

import numpy as np

TOKENS, MASK = "observation.language.tokens", "observation.language.attention_mask"
NOISE = "noise"
_COARSE = ("float32", "float16", "bfloat16")
_MOST_BYTES = 1 << 31


def main(folder: str, task: str) -> None:
    """Answer until the input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    policy = _Policy(folder, task)
    said = {"version": version("lerobot"), "precision": policy.precision}
    said["transformers"] = version("transformers") if "transformers" in sys.modules else ""
    write(out, {name: np.array(one) for name, one in said.items()})
    while (given := read(sys.stdin.buffer)) is not None:
        try:
            made = policy.step(given)
        except Exception as error:  # what a variation is may be no observation to it
            write(out, {"error": np.array(f"{type(error).__name__}: {error}"[:500])})
        else:
            write(out, {"action": made})


class _Policy:
    """The policy of a folder between its processors."""

    def __init__(self, folder: str, task: str) -> None:
        configs = import_module("lerobot.configs.policies")
        factory = import_module("lerobot.policies.factory")
        config = configs.PreTrainedConfig.from_pretrained(folder)
        config.device = "cpu"
        self._policy = factory.get_policy_class(config.type).from_pretrained(folder, config=config)
        self._policy.eval()
        on_cpu = {"device_processor": {"device": "cpu"}}
        self._before, self._after = factory.make_pre_post_processors(
            config,
            pretrained_path=folder,
            preprocessor_overrides=on_cpu,
            postprocessor_overrides=on_cpu,
        )
        self._task = task
        types = {str(one.dtype).rpartition(".")[2] for one in self._policy.parameters()}
        self.precision = max(types & set(_COARSE), key=_COARSE.index, default="float32")

    def step(self, given: Mapping[str, np.ndarray]) -> np.ndarray:
        """The action for an observation, in the robot's units, [chunk, n]."""
        import torch

        batch: dict[str, Any] = {"task": self._task, "robot_type": ""}
        apart = {
            name: torch.from_numpy(given[name]) for name in (TOKENS, MASK, NOISE) if name in given
        }
        for name, array in given.items():
            if name in apart:
                continue
            tensor = torch.from_numpy(array)
            if tensor.dtype == torch.uint8:
                tensor = (tensor.type(torch.float32) / 255).permute(2, 0, 1).contiguous()
            batch[name] = tensor.unsqueeze(0)
        with torch.no_grad():
            ready = self._before(batch)
            noise = {NOISE: apart.pop(NOISE)} if NOISE in apart else {}
            ready.update(apart)
            self._policy.reset()
            actions = self._after(self._policy.predict_action_chunk(ready, **noise))
        made: np.ndarray = actions[0].float().cpu().numpy()
        return made


def write(out: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    """Send some arrays."""
    held = io.BytesIO()
    np.savez(held, **dict(arrays))  # type: ignore[arg-type]  # of its option allow_pickle
    out.write(held.tell().to_bytes(8, "little") + held.getvalue())
    out.flush()


def read(stream: IO[bytes]) -> dict[str, np.ndarray] | None:
    """Some arrays; None once the other side has ended. ValueError for what is none."""
    length = int.from_bytes(stream.read(8), "little")
    if not length:
        return None
    if length > _MOST_BYTES:
        raise ValueError(f"{length} bytes are no message")
    with np.load(io.BytesIO(stream.read(length)), allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


if __name__ == "__main__":
    main(*sys.argv[1:3])
