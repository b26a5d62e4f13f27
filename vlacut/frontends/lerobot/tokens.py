"""Prompts of LeRobot's checkpoints as tokens, by what their steps say of the tokeniser."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vlacut.errors import ModelError
from vlacut.frontends.lerobot.steps import Steps
from vlacut.frontends.prompts.tokens import Prompt, Tokens, open_tokens
from vlacut.frontends.prompts.written import written_state

TOKENS, MASK = "observation.language.tokens", "observation.language.attention_mask"
_MOST_TOKENS = 1 << 16


def tokenised(folder: Path, steps: Steps, task: str, numbers: int) -> Prompt:
    """The prompt of a policy whose steps have a tokeniser; `task` may be empty.

    Args:
        folder: of the checkpoint.
        steps: ahead of the policy.
        task: as the user has it.
        numbers: of the state that is written into the prompt, where it is.

    Raises ModelError if settings are not known, or there is no tokeniser for a task.
    """
    said = steps.tokenizer or {}
    where = folder / "policy_preprocessor.json"
    length, side = said.get("max_length", 512), said.get("padding_side", "right")
    padding, cut = said.get("padding", "max_length"), said.get("truncation", True)
    if type(length) is not int or not 0 < length <= _MOST_TOKENS:
        raise ModelError(f"{where}: max_length of the tokenizer is {length!r:.40}")
    if side not in ("left", "right") or padding not in ("longest", "max_length"):
        raise ModelError(f"{where}: padding {padding!r:.40}, {side!r:.40} of the tokenizer")
    if not task:
        return Prompt(length, None)
    tokens = open_tokens(folder, said.get("tokenizer_name"), str(where))
    if steps.writes_state:
        if side != "right" or padding != "max_length":
            raise ModelError(f"{where}: a prompt with the state in it is padded at its right")
        if numbers > length:
            raise ModelError(
                f"{where}: a state of {numbers} numbers does not fit in a prompt of {length} tokens"
            )
        return Prompt(length, None, written_state(tokens.whole, task, numbers, str(where)))
    if steps.newline and not task.endswith("\n"):
        task += "\n"
    found = tokens.whole(task)
    if len(found) > length:
        if cut is not True:
            raise ModelError(f"--task: is {len(found)} tokens, and the policy reads {length}")
        found = found[:length]
    return _padded(found, length if padding == "max_length" else len(found), side, tokens)


def _padded(found: list[int], length: int, side: str, tokens: Tokens) -> Prompt:
    spare = length - len(found)
    padded, real = [tokens.padding] * spare if spare else [], [True] * len(found)
    if side == "right":
        ids, mask = found + padded, real + [False] * spare
    else:
        ids, mask = padded + found, [False] * spare + real
    return Prompt(length, (np.array([ids], np.int64), np.array([mask], np.bool_)))
