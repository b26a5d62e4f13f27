"""LeRobot's own policy, step by step: run by the Python that has LeRobot, and needs nothing else.

    python vlacut_lerobot.py DIR TASK

Over standard input and output: 8 bytes of length, little endian, then that many of an .npz file.
First it says `version`, that of `transformers`, and `precision`; then each observation is answered
by `action` or `error`.
What LeRobot prints goes to standard error.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np

TOKENS, MASK = "observation.language.tokens", "observation.language.attention_mask"
NOISE, DRAWN = "noise", "noise.steps"
_SAYS = ("config.json", "policy_preprocessor.json", "policy_postprocessor.json")
_DIFFUSION = "diffusion"
_APART = (TOKENS, MASK, NOISE, DRAWN)  # of a bundle's inputs: what no robot gives
_COARSE = ("float32", "float16", "bfloat16")
_MOST_BYTES = 1 << 31
_PIECE_BYTES = 1 << 20


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
        remembers = config.type == _DIFFUSION and config.n_obs_steps > 1
        self._history = config.n_obs_steps if remembers else 0
        types = {str(one.dtype).rpartition(".")[2] for one in self._policy.parameters()}
        self.precision = max(types & set(_COARSE), key=_COARSE.index, default="float32")

    def step(self, given: Mapping[str, np.ndarray]) -> np.ndarray:
        """The action for an observation, in the robot's units, [chunk, n]."""
        import torch

        apart = {name: torch.from_numpy(given[name]) for name in _APART if name in given}
        noise = {name: apart.pop(name) for name in (NOISE, DRAWN) if name in apart}
        robot = {name: array for name, array in given.items() if name not in _APART}
        moments = [robot]
        if self._history:
            places = range(self._history)
            moments = [{name: array[at] for name, array in robot.items()} for at in places]
        with torch.no_grad():
            seen = [{**self._before(self._batch(one)), **apart} for one in moments]
            self._policy.reset()
            actions = self._after(chunk_of(self._policy, seen, noise))
        made: np.ndarray = actions[0].float().cpu().numpy()
        return made

    def _batch(self, robot: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """As LeRobot hands an observation of a robot to the steps before."""
        import torch

        batch: dict[str, Any] = {"task": self._task, "robot_type": ""}
        for name, array in robot.items():
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            if tensor.dtype == torch.uint8:
                tensor = (tensor.type(torch.float32) / 255).permute(2, 0, 1).contiguous()
            batch[name] = tensor.unsqueeze(0)
        return batch


def digest_of(folder: Path) -> str:
    """SHA-256 of what makes a checkpoint's policy: its configurations and tensors, by name."""
    whole = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix == ".safetensors" or file.name in _SAYS:
            part = hashlib.sha256()
            with file.open("rb") as opened:
                while piece := opened.read(_PIECE_BYTES):
                    part.update(piece)
            whole.update(f"{file.name} {part.hexdigest()}\n".encode())
    return whole.hexdigest()


def chunk_of(policy: Any, seen: Sequence[Mapping[str, Any]], noise: Mapping[str, Any]) -> Any:
    """The chunk [1, horizon, n] that a policy of LeRobot's makes, between its steps.

    Args:
        policy: of LeRobot's; of one that remembers observations, all are of `seen` afterwards.
        seen: what the steps before make of the last observations, the oldest first.
        noise: tensors by the bundle's names of noise: `noise` that it begins with, and
            `noise.steps` that a scheduler of diffusers draws.
    """
    import torch

    first = {NOISE: noise[NOISE]} if NOISE in noise else {}
    if policy.name != _DIFFUSION:
        return policy.predict_action_chunk(dict(seen[-1]), **first)
    queue = policy._queues["action"]  # while it holds a command, none is made
    for one in seen[:-1]:
        queue.clear()
        queue.append(torch.zeros(1))
        policy.select_action(dict(one))
    queue.clear()
    with _drawing(noise.get(DRAWN)):
        command = policy.select_action(dict(seen[-1]), **first)
    made = torch.stack([command, *queue], dim=1)
    queue.clear()
    return made


@contextmanager
def _drawing(rows: Any) -> Iterator[None]:
    """What DDPM's steps draw are these rows, [steps, horizon, n]."""
    ddpm = import_module("diffusers.schedulers.scheduling_ddpm")
    drawn, left = ddpm.randn_tensor, iter(() if rows is None else rows)
    if rows is not None:
        ddpm.randn_tensor = lambda shape, **_: next(left).reshape(shape)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        ddpm.randn_tensor = drawn  # type: ignore[attr-defined]


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
