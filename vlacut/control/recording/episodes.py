"""Episodes: what a robot saw, sensed, was told and did, as a file that calibrations read.

The file is numpy's .npz without pickles. Times are nanoseconds on one monotonic clock; N ticks, E
episodes, K chunks of T commands of W columns, M samples of J joints:

    format                1
    period_s              of a tick
    chunk_period_s        between the commands of a chunk
    declared              what a chunk is, see `vlacut.control.ways.chunk`
    variants              names of the plan's variants
    routes                `edge`, `cloud` or `cut`, of each
    episode               E           first tick of every episode
    tick_ns               N
    captured_ns           N           of the tick's observation
    command               N x W       NaN before an episode's first chunk
    command_captured_ns   N           of the oldest observation with a share in the command
    inference             N           that the command is from; -1 for none
    index                 N           of the command in its chunk
    starved               N           whether no chunk had a command
    observation/NAME      N x ...     every tensor of it
    chunk                 K x T x W   as they were taken over
    chunk_number          K           of the inference
    chunk_tick            K           at which it was asked for
    chunk_captured_ns, chunk_arrived_ns     K
    chunk_variant         K           index in `variants`
    sense_ns              M
    q, qd, tau            M x J       NaN where they were not sensed
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from vlacut.bundle.staging import write_file
from vlacut.errors import InputError
from vlacut.tensor.npz import UNREADABLE, npz_bytes, read_npz, reason

FORMAT = 1
_OBSERVATION = "observation/"


@dataclass(frozen=True, eq=False)
class Episodes:
    """See the module's docstring."""

    period_s: float
    chunk_period_s: float
    declared: str
    variants: np.ndarray
    routes: np.ndarray
    episode: np.ndarray
    tick_ns: np.ndarray
    captured_ns: np.ndarray
    command: np.ndarray
    command_captured_ns: np.ndarray
    inference: np.ndarray
    index: np.ndarray
    starved: np.ndarray
    chunk: np.ndarray
    chunk_number: np.ndarray
    chunk_tick: np.ndarray
    chunk_captured_ns: np.ndarray
    chunk_arrived_ns: np.ndarray
    chunk_variant: np.ndarray
    sense_ns: np.ndarray
    q: np.ndarray
    qd: np.ndarray
    tau: np.ndarray
    observation: Mapping[str, np.ndarray]

    @property
    def ticks(self) -> int:
        """Of all episodes."""
        return len(self.tick_ns)

    def bounds(self) -> list[tuple[int, int]]:
        """First tick of every episode, and the one after its last."""
        ends = [*self.episode[1:].tolist(), self.ticks]
        return list(zip(self.episode.tolist(), ends, strict=True))

    def observed(self, tick: int) -> dict[str, np.ndarray]:
        """The observation of a tick."""
        return {name: np.ascontiguousarray(one[tick]) for name, one in self.observation.items()}


def write_episodes(path: Path, episodes: Episodes) -> None:
    """Write the file."""
    arrays = {"format": np.array(FORMAT)}
    for item in fields(Episodes):
        if item.name != "observation":
            arrays[item.name] = np.asarray(getattr(episodes, item.name))
    observed = {f"{_OBSERVATION}{name}": one for name, one in episodes.observation.items()}
    write_file(path, npz_bytes(arrays | observed))


def read_episodes(path: Path) -> Episodes:
    """What a file holds; InputError if that is no episodes of this format."""
    try:
        found = read_npz(path)
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read as episodes: {reason(error)}") from error
    wrong = _wrong(found)
    if wrong:
        raise InputError(f"{path}: {wrong}; record it with vlacut run --record")
    observed = {
        name.removeprefix(_OBSERVATION): one
        for name, one in found.items()
        if name.startswith(_OBSERVATION)
    }
    names = [item.name for item in fields(Episodes) if item.name != "observation"]
    arrays: dict[str, Any] = {name: found[name] for name in names}
    arrays |= {name: float(found[name]) for name in ("period_s", "chunk_period_s")}
    arrays["declared"] = str(found["declared"])
    return Episodes(**arrays, observation=observed)


_COUNTED = {
    "N": "tick_ns captured_ns command_captured_ns inference index starved",
    "K": "chunk_number chunk_tick chunk_captured_ns chunk_arrived_ns chunk_variant",
    "M": "sense_ns",
    "E": "episode",
}


def _wrong(found: dict[str, np.ndarray]) -> str:
    """What is wrong with these arrays; empty if nothing is."""
    if "format" not in found or found["format"].shape or found["format"].tolist() != FORMAT:
        return f"holds no episodes of format {FORMAT}"
    for item in fields(Episodes):
        if item.name != "observation" and item.name not in found:
            return f"{item.name} is missing"
    sizes = {"N": len(found["tick_ns"]) if found["tick_ns"].ndim else 0}
    for letter, names in _COUNTED.items():
        for name in names.split():
            array = found[name]
            if array.ndim != 1 or array.dtype.kind not in "iub":
                return f"{name} is not a row of integers"
            if array.size != sizes.setdefault(letter, array.size):
                return f"{name} has {array.size} entries, not {sizes[letter]}"
    ranks = {"command": 2, "chunk": 3, "q": 2, "qd": 2, "tau": 2, "period_s": 0}
    for name, rank in {**ranks, "chunk_period_s": 0}.items():
        if found[name].ndim != rank or found[name].dtype.kind != "f":
            return f"{name} is not {rank}-dimensional, of floats"
    for name in ("variants", "routes"):
        if found[name].ndim != 1 or found[name].dtype.kind != "U":
            return f"{name} is not a row of names"
    if found["declared"].ndim or found["declared"].dtype.kind != "U":
        return "declared is no text"
    lengths = {"command": "N", "chunk": "K", "q": "M", "qd": "M", "tau": "M"}
    observed = {name: "N" for name in found if name.startswith(_OBSERVATION)}
    for name, letter in {**lengths, **observed}.items():
        if found[name].ndim < 1 or len(found[name]) != sizes[letter]:
            return f"{name} does not have {sizes[letter]} rows"
    if not sizes["N"] or not (found["period_s"] > 0 and found["chunk_period_s"] > 0):
        return "has no tick, or no period"
    return _disorder(found)


def _disorder(found: dict[str, np.ndarray]) -> str:
    episode, ticks = found["episode"], len(found["tick_ns"])
    if not episode.size or episode[0] != 0 or (np.diff(episode) <= 0).any() or episode[-1] >= ticks:
        return "episode does not divide the ticks"
    if found["chunk"].shape[2] != found["command"].shape[1]:
        return "chunk and command have not as many columns"
    variant = found["chunk_variant"]
    if variant.size and not (variant.min() >= 0 and variant.max() < len(found["variants"])):
        return "chunk_variant names a variant that there is not"
    return ""
