"""Drafts: guesses of the tokens that a loop will say next, from those that it said before.

The pass `draft` writes these formulas into a graph; here they are in numpy, to measure on recorded
episodes how many of them are right. All tokens of an action are drafted at once, each from those at
its own place: T of them, [T, shape of a token].

    last              the tokens of the last step
    velocity          those moved on by as much as they moved between the last two steps
    kalman:RATIO      those of a Kalman filter at each place, for tokens that move evenly but for
                      random accelerations: variance RATIO to that of what is read, 1 without it.
                      KERV drafts so
    chunk:SHIFT:WIDTH the rest of the chunk in force: the last step's tokens, SHIFT places later,
                      for so many were played; behind its end the last WIDTH of them, those of an
                      action, again. SHIFT without WIDTH is both
    input             the caller's; nothing is drafted here
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vlacut.errors import InputError

LAST, VELOCITY, KALMAN, CHUNK, INPUT = KINDS = ("last", "velocity", "kalman", "chunk", "input")
UNSEEN_SPREAD = 100.0  # variance of a velocity of which nothing is known, to that of what is read
MOST_RATIO = 1e6
_MOST_PLACES = 1 << 20


@dataclass(frozen=True)
class DraftSource:
    """Where drafts come from.

    Attributes:
        kind: one of `KINDS`.
        ratio: of `kalman`, up to `MOST_RATIO`: float32 loses the spread of place beside much more.
        shift, width: of `chunk`.
    """

    kind: str
    ratio: float = 1.0
    shift: int = 0
    width: int = 0

    @property
    def tracks(self) -> bool:
        """Whether it keeps where tokens are, and how they move."""
        return self.kind in (VELOCITY, KALMAN)


def parse_draft(text: str) -> DraftSource:
    """The source that a text names; InputError, with what may be written, if it names none."""
    kind, *given = text.split(":")
    try:
        if kind == KALMAN and len(given) == 1 and 0 < float(given[0]) <= MOST_RATIO:
            return DraftSource(kind, float(given[0]))
        if kind == CHUNK and len(given) in (1, 2):
            shift, width = int(given[0]), int(given[-1])
            if 0 < shift < _MOST_PLACES and 0 < width < _MOST_PLACES:
                return DraftSource(kind, shift=shift, width=width)
    except ValueError:
        pass
    if kind in KINDS and kind != CHUNK and not given:
        return DraftSource(kind)
    raise InputError(
        f"draft {text!r}: write last, velocity, kalman or kalman:RATIO, chunk:SHIFT or "
        f"chunk:SHIFT:WIDTH, or input"
    )


class Drafter(Protocol):
    """Drafts the tokens of one step after the other, of an episode."""

    def follow(self, said: np.ndarray) -> np.ndarray:
        """The drafts of the next step, of the tokens [T, ...] that this one said."""


def drafter(source: DraftSource) -> Drafter:
    """A drafter at the beginning of an episode; InputError for drafts that a caller gives."""
    if source.kind == LAST:
        return _Last()
    if source.kind == CHUNK:
        return _Chunk(source)
    if source.tracks:
        return _Track(source)
    raise InputError("drafts of an input are its caller's; there is nothing to measure")


def accepted(draft: np.ndarray, said: np.ndarray) -> int:
    """How many drafts from the first on are what was said."""
    wrong = (draft != said).reshape(len(said), -1).any(axis=1)
    return int(wrong.argmax()) if wrong.any() else len(said)


def shifted(places: int, source: DraftSource) -> np.ndarray:
    """Which of the last step's tokens each draft is, of `chunk`."""
    width = min(source.width, places)
    found = np.arange(places, dtype=np.int64) + source.shift
    over = np.maximum(found - (places - 1), 0)
    made: np.ndarray = found - -(-over // width) * width
    return made


class _Last:
    def follow(self, said: np.ndarray) -> np.ndarray:
        return said


class _Chunk:
    def __init__(self, source: DraftSource) -> None:
        self._source = source

    def follow(self, said: np.ndarray) -> np.ndarray:
        made: np.ndarray = said[shifted(len(said), self._source)]
        return made


class _Track:
    """Every operator is in float32 and in the order of the graph's, so that both draft alike."""

    def __init__(self, source: DraftSource) -> None:
        self._source = source
        self._place = self._velocity = self._spread = np.zeros(0, np.float32)
        self._seen = False

    def follow(self, said: np.ndarray) -> np.ndarray:
        read = said.astype(np.float32)
        if self._seen:
            gain = self._gains()
            ahead = self._place + self._velocity
            apart = read - ahead
            self._place = ahead + gain[0] * apart
            self._velocity = self._velocity + gain[1] * apart
        else:
            self._place, self._velocity = read, np.zeros_like(read)
            self._spread = np.array([1, 0, UNSEEN_SPREAD], np.float32)
            self._seen = True
        made: np.ndarray = np.rint(self._place + self._velocity).astype(said.dtype)
        return made

    def _gains(self) -> np.ndarray:
        """By how much of a surprise place and velocity move; the spread after that."""
        if self._source.kind == VELOCITY:
            return np.ones(2, np.float32)
        place, both, velocity = self._spread
        quarter, half, whole = noise(self._source)
        ahead = ((place + (both + both)) + velocity) + quarter
        across, faster = (both + velocity) + half, velocity + whole
        total = ahead + np.float32(1)
        gains = np.array([ahead / total, across / total], np.float32)
        self._spread = np.array(
            [
                ahead - gains[0] * ahead,
                across - gains[0] * across,
                faster - gains[1] * across,
            ],
            np.float32,
        )
        return gains


def noise(source: DraftSource) -> np.ndarray:
    """What a step of random acceleration adds to the spreads of place, both and velocity."""
    return np.array([source.ratio / 4, source.ratio / 2, source.ratio], np.float32)
