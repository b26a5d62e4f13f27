"""Prompts as tokens, and the state in them: what the program makes is what the tokeniser would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pi_folders import digits_tokenizer

from vlacut.errors import ModelError
from vlacut.frontends.prompts.tokens import open_tokens
from vlacut.frontends.prompts.written import BINS, clean, written_state
from vlacut_models.pi.words import Words

TASK = " pick_up\nthe tin "
NUMBERS = 5


def prompt(state: np.ndarray) -> str:
    """What openpi and LeRobot write, as their code has it."""
    bins = np.digitize(state, bins=np.linspace(-1, 1, BINS + 1)[:-1]) - 1
    task = TASK.strip().replace("_", " ").replace("\n", " ")
    return f"Task: {task}, State: {' '.join(map(str, bins))};\nAction: "


@pytest.fixture(scope="module")
def encode(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[int]]:
    folder = tmp_path_factory.mktemp("tokens")
    digits_tokenizer(folder)
    return open_tokens(folder, None, "here").whole


@pytest.fixture(scope="module")
def words(encode: Callable[[str], list[int]]) -> Words:
    return Words(written_state(encode, TASK, NUMBERS, "here"), 64)


@given(st.lists(st.floats(-1.5, 1.5, width=32), min_size=NUMBERS, max_size=NUMBERS))
@settings(max_examples=20)
def test_a_state_is_written_as_the_tokenizer_reads_it(
    words: Words, encode: Callable[[str], list[int]], state: list[float]
) -> None:
    array = np.array(state, np.float32)
    tokens, mask = words(torch.from_numpy(array)[None])
    wanted = encode(prompt(array))
    assert tokens.shape == mask.shape == (1, 64)
    assert tokens[0][mask[0]].tolist() == wanted
    assert not tokens[0][~mask[0]].any()


@pytest.mark.parametrize("value", [-1.0, -1 + 1 / 128, 0.0, 1 - 1 / 128, 1.0, -9.0, 9.0, np.nan])
def test_the_edges_of_the_bins_are_openpi_s(words: Words, value: float) -> None:
    state = np.full(NUMBERS, value, np.float32)
    bins = np.digitize(state, bins=np.linspace(-1, 1, BINS + 1)[:-1])
    # Nothing is above a value that is no number, so numpy puts it behind the last edge.
    wanted = int(bins[0]) if value == value else 0
    counted = (torch.from_numpy(state)[:, None] >= words.edges).sum(dim=1)
    assert counted.tolist() == [wanted] * NUMBERS


def test_what_is_longer_than_the_prompt_is_cut(encode: Callable[[str], list[int]]) -> None:
    short = Words(written_state(encode, TASK, NUMBERS, "here"), 20)
    tokens, mask = short(torch.zeros(1, NUMBERS))
    assert mask.all()
    assert tokens[0].tolist() == encode(prompt(np.zeros(NUMBERS)))[:20]


def test_a_tokenizer_that_looks_across_numbers_is_refused() -> None:
    def encode(text: str) -> list[int]:
        return [len(word) for word in text.split(" ")] + [sum(map(ord, text)) % 7]

    with pytest.raises(ModelError, match="does not put a prompt with numbers together"):
        written_state(encode, TASK, NUMBERS, "here")


def test_a_text_that_the_tokenizer_cannot_read_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="<unk>"))
    words.save(str(tmp_path / "tokenizer.json"))
    tokens = open_tokens(tmp_path, None, "here")
    for read in (tokens.whole, tokens.plain):
        with pytest.raises(ModelError, match=r"tokenizer\.json has no tokens for 'pin'"):
            read("pin")


def test_a_prompt_begins_as_its_settings_say(tmp_path: Path) -> None:
    digits_tokenizer(tmp_path)
    tokens = open_tokens(tmp_path, None, "here")
    assert tokens.whole("pin") == [2, *tokens.plain("pin")]
    assert tokens.padding == 0
    assert clean(" a_b\n") == "a b"
