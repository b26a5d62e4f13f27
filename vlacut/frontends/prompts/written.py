r"""The state in the prompt: pi05 reads it as words, one of 257 for each number, in every step.

    Task: TASK, State: 12 200 -1;\nAction:

A number from -1 to 1 is written as the bin of 256 that it is in, and one below as -1. So the tokens
are those before, a few for each number, and those behind: a table of the numbers' tokens, made by
the tokeniser when the policy is compiled, gives them in the program itself. Whether a tokeniser
puts texts together so is tried; one that does not is refused.

Source: Physical Intelligence, pi0.5 (arXiv 2504.16054), and its published prompt; openpi,
src/openpi/models/tokenizer.py; huggingface/lerobot, src/lerobot/policies/pi05/processor_pi05.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.errors import ModelError

BINS = 256
_VALUES = range(-1, BINS)
_TAIL = ";\nAction: "
_TRIALS = 64

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class WrittenState:
    """Tokens of a prompt with numbers in it.

    Attributes:
        head, tail: int64, the tokens before the numbers and behind them.
        pieces: int64 [257, k], the tokens of a number at the index of its bin + 1.
        lengths: int64 [257], how many of the k it has.
    """

    head: np.ndarray
    pieces: np.ndarray
    lengths: np.ndarray
    tail: np.ndarray


def clean(task: str) -> str:
    """A task as openpi and LeRobot write it into pi0's and pi05's prompts."""
    return task.strip().replace("_", " ").replace("\n", " ")


def written_state(encode: Encode, task: str, numbers: int, where: str) -> WrittenState:
    """The tokens of a task with that many numbers behind it.

    Args:
        encode: a text's tokens, with those that begin it.
        task: as the user has it.
        numbers: in the state, 1 or more.
        where: what asks for it, for the error.

    Raises ModelError if the tokens of a prompt are not those of its pieces, one behind the other.
    """
    front = f"Task: {clean(task)}, State:"

    def whole(values: Sequence[int]) -> list[int]:
        return encode(f"{front}{''.join(f' {value}' for value in values)}{_TAIL}")

    drawn = np.random.default_rng(0).integers(-1, BINS, (_TRIALS, numbers)).tolist()
    trials = [(values, whole(values)) for values in drawn]
    singles = [whole([value]) for value in _VALUES]
    once, twice = whole([0]), whole([0, 0])
    count = len(twice) - len(once)
    for place in range(1, len(once) - count) if count > 0 else ():
        found = _split(singles, place, len(once) - count - place)
        if found is not None and all(_joined(found, values) == made for values, made in trials):
            return found
    raise ModelError(
        f"{where}: its tokenizer does not put a prompt with numbers together from pieces; leave "
        f"--task out, and let the client send the tokens"
    )


def _split(singles: Sequence[list[int]], head: int, tail: int) -> WrittenState | None:
    """Prompts of one number each, if they have so many tokens before and behind it in common."""
    first = singles[0]
    ends = first[len(first) - tail :]
    pieces = [one[head : len(one) - tail] for one in singles]
    alike = all(
        one[:head] == first[:head] and one[len(one) - tail :] == ends and piece
        for one, piece in zip(singles, pieces, strict=True)
    )
    if not alike:
        return None
    lengths = [len(piece) for piece in pieces]
    table = np.zeros((len(pieces), max(lengths)), np.int64)
    for row, piece in zip(table, pieces, strict=True):
        row[: len(piece)] = piece
    return WrittenState(
        np.array(first[:head], np.int64),
        table,
        np.array(lengths, np.int64),
        np.array(ends, np.int64),
    )


def _joined(found: WrittenState, values: Sequence[int]) -> list[int]:
    made = [int(token) for token in found.head]
    for value in values:
        made += [int(one) for one in found.pieces[value + 1, : found.lengths[value + 1]]]
    return [*made, *(int(token) for token in found.tail)]
