"""Prompts as tokens: a task becomes numbers when the policy is compiled, by `tokenizers`.

The tokeniser is `tokenizer.json` of the folder (in `tokenizer/`, as newer LeRobots write it, or
beside `config.json`), else of the user's cache of the Hub, where training left it. Nothing is
downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlacut.errors import ModelError
from vlacut.frontends.lerobot.config import read_json
from vlacut.frontends.lerobot.steps import Steps

TOKENS, MASK = "observation.language.tokens", "observation.language.attention_mask"
_FILE, _SETTINGS = "tokenizer.json", "tokenizer_config.json"
_MOST_TOKENS = 1 << 16


@dataclass(frozen=True)
class Prompt:
    """The task of a policy.

    Attributes:
        length: tokens in it, with padding.
        tokens: int64 [1, length], and which of them are no padding, bool [1, length]; None where
            they are inputs of the program.
    """

    length: int
    tokens: tuple[np.ndarray, np.ndarray] | None


def tokenised(folder: Path, steps: Steps, task: str) -> Prompt:
    """The prompt of a policy whose steps have a tokeniser; `task` may be empty.

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
    if steps.newline and not task.endswith("\n"):
        task += "\n"
    found = _encoded(folder, said, task, where)
    if len(found) > length:
        if cut is not True:
            raise ModelError(f"--task: is {len(found)} tokens, and the policy reads {length}")
        found = found[:length]
    spare = (length - len(found)) if padding == "max_length" else 0
    padded, real = [_pad_token(folder, said)] * spare if spare else [], [True] * len(found)
    if side == "right":
        ids, mask = found + padded, real + [False] * spare
    else:
        ids, mask = padded + found, [False] * spare + real
    tokens = np.array([ids], np.int64), np.array([mask], np.bool_)
    return Prompt(len(ids), tokens)


def _encoded(folder: Path, said: Mapping[str, Any], task: str, where: Path) -> list[int]:
    from tokenizers import Tokenizer

    file = find_file(folder, said.get("tokenizer_name"), _FILE)
    if file is None:
        raise ModelError(
            f"{where}: --task needs the tokenizer {said.get('tokenizer_name')!r:.80}, and neither "
            f"{folder / 'tokenizer' / _FILE} nor the Hub's cache on this machine has it; copy its "
            f"{_FILE} there, or leave --task out: the tokens become an input"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # a library in Rust, which raises nothing finer
        raise ModelError(f"{file}: cannot be read as a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids: list[int] = tokenizer.encode(task).ids
    return ids


def _pad_token(folder: Path, said: Mapping[str, Any]) -> int:
    """The number of the token that pads; 0, which a mask hides, where nobody says."""
    from tokenizers import Tokenizer

    name = said.get("tokenizer_name")
    settings, file = find_file(folder, name, _SETTINGS), find_file(folder, name, _FILE)
    if settings is None or file is None:
        return 0
    token = read_json(settings).get("pad_token")
    text = token.get("content") if isinstance(token, dict) else token
    number = Tokenizer.from_file(str(file)).token_to_id(text) if isinstance(text, str) else None
    return int(number) if number is not None else 0


def find_file(folder: Path, hub: Any, name: str) -> Path | None:
    """A file of a tokeniser or a model that a checkpoint names: in its folder, in a folder that it
    names, or in the Hub's cache.
    """
    for place in (folder / "tokenizer", folder):
        if name != "config.json" and (place / name).is_file():
            return place / name
    if not isinstance(hub, str) or not hub:
        return None
    if (Path(hub) / name).is_file():
        return Path(hub) / name
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(hub, name)
    except HFValidationError:
        return None  # no name of the Hub's: a folder of another machine
    return Path(cached) if isinstance(cached, str) else None
