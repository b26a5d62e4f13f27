"""A tokeniser of a checkpoint: where its files are, and what a text is in its numbers.

The tokeniser is `tokenizer.json` of the folder (in `tokenizer/`, as newer LeRobots write it, or
beside the weights), else of a folder that the checkpoint names, else of the user's cache of the
Hub, where training left it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlacut.errors import ModelError
from vlacut.frontends.json_files import read_json
from vlacut.frontends.prompts.written import WrittenState

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"
_SETTINGS = "tokenizer_config.json"


@dataclass(frozen=True)
class Prompt:
    """The task of a policy.

    Attributes:
        length: tokens in it, with padding.
        tokens: int64 [1, length], and which of them are no padding, bool [1, length]; None where
            they are inputs of the program, or the state is written among them.
        written: how the state is written into it; None where it is not.
    """

    length: int
    tokens: tuple[np.ndarray, np.ndarray] | None
    written: WrittenState | None = None


class Tokens:
    """An opened tokeniser.

    Args:
        tokenizer: without padding and truncation.
        settings: of `tokenizer_config.json`; empty if there is none.
    """

    def __init__(self, tokenizer: Tokenizer, settings: dict[str, Any]) -> None:
        self._tokenizer, self._settings = tokenizer, settings

    def plain(self, text: str) -> list[int]:
        """A text alone, without tokens that begin or end one."""
        return self._encoded(text, added=False)

    def whole(self, text: str) -> list[int]:
        """A text with what its file puts around one, and begun as its settings say."""
        found = self._encoded(text, added=True)
        if self._settings.get("add_bos_token") is True:
            begins = self.number(self._settings.get("bos_token"))
            if begins is not None and found[:1] != [begins]:
                return [begins, *found]
        return found

    def _encoded(self, text: str, added: bool) -> list[int]:
        try:
            found: list[int] = self._tokenizer.encode(text, add_special_tokens=added).ids
        except Exception as error:  # a library in Rust, which raises nothing finer
            raise ModelError(f"{FILE} has no tokens for {text!r:.80}: {error}") from error
        return found

    def number(self, token: Any) -> int | None:
        """The number of a token, by its text or as the settings have it; None if it has none."""
        text = token.get("content") if isinstance(token, dict) else token
        found = self._tokenizer.token_to_id(text) if isinstance(text, str) else None
        return int(found) if found is not None else None

    @property
    def padding(self) -> int:
        """The number of the token that pads; 0, which a mask hides, where nobody says."""
        return self.number(self._settings.get("pad_token")) or 0


def open_tokens(folder: Path, hub: Any, where: str) -> Tokens:
    """The tokeniser of a checkpoint.

    Args:
        folder: of the checkpoint.
        hub: a folder, or a name of the Hub's, that the checkpoint gives.
        where: what asks for it, for the error.

    Raises ModelError where there is none on this machine, or it cannot be read.
    """
    from tokenizers import Tokenizer

    file = find_file(folder, hub, FILE)
    if file is None:
        raise ModelError(
            f"{where}: --task needs the tokenizer {hub!r:.80}, and neither "
            f"{folder / 'tokenizer' / FILE} nor the Hub's cache on this machine has it; copy its "
            f"{FILE} there, or leave --task out: the tokens become an input"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # a library in Rust, which raises nothing finer
        raise ModelError(f"{file}: cannot be read as a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    settings = find_file(folder, hub, _SETTINGS)
    return Tokens(tokenizer, read_json(settings) if settings else {})


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
