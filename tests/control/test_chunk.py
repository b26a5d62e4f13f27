"""How chunks are declared, and read and written back."""

from __future__ import annotations

import numpy as np
import pytest

from vlacut.control.signals.entropy import entropy_of
from vlacut.control.ways.chunk import ABSOLUTE, ChunkReader, ChunkSpec, Kind, parse_chunk
from vlacut.errors import InputError
from vlacut.tensor import TensorSpec

STATE = TensorSpec("state", "float32", (1, 8))


def reader(text: str, shape: tuple[int, ...], dtype: str = "float32") -> ChunkReader:
    return ChunkReader(parse_chunk(text), TensorSpec("action", dtype, shape), {"state": STATE}, 0.1)


def test_a_text_declares_a_chunk() -> None:
    assert parse_chunk("action") == ChunkSpec("action")
    text = "action,axis=1,period=50ms,horizon=8,kind=relative,base=state,columns=3:-:0,switched=1"
    assert parse_chunk(text) == ChunkSpec(
        "action", 1, 0.05, 8, Kind.RELATIVE, "state", (3, ABSOLUTE, 0), (1,)
    )


@pytest.mark.parametrize(
    "text",
    [
        "action",
        "action,axis=1,period=50ms,horizon=8,switched=6:7",
        "action,kind=delta",
        "action,axis=-1,kind=relative,base=state,columns=3:-:0,switched=1",
        "action,period=33.3333ms",
    ],
)
def test_a_declaration_can_be_written(text: str) -> None:
    assert parse_chunk(str(parse_chunk(text))) == parse_chunk(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "name an output"),
        ("action,axi=1", "did you mean axis"),
        ("action,axis=x", "cannot be read"),
        ("action,period=50", "write e.g. 100ms"),
        ("action,kind=odd", "cannot be read"),
        ("action,kind=relative", "name the tensor"),
        ("action,base=state", "do not fit"),
        ("action,horizon=-1", "must be 0 or more"),
    ],
)
def test_a_text_that_declares_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_chunk(text)


@pytest.mark.parametrize(
    ("text", "shape", "said"),
    [
        ("action,axis=3", (1, 4, 2), "no axis 3"),
        ("action,switched=2", (1, 4, 2), "no column 2 of 2"),
        ("action", (1, 0, 2), "holds no command"),
        ("action,kind=relative,base=stat", (1, 4, 2), "did you mean state"),
        ("action,kind=relative,base=state,columns=0:8", (1, 4, 2), "must be 2, and below 8"),
        ("action,kind=relative,base=state,columns=0", (1, 4, 2), "must be 2, and below 8"),
        ("action,kind=relative,base=state,columns=0:-:1", (1, 4, 2), "must be 2"),
    ],
)
def test_a_declaration_must_fit_the_policy(text: str, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        reader(text, shape)


def test_commands_of_integers_are_refused() -> None:
    with pytest.raises(InputError, match="float commands"):
        reader("action", (1, 4, 2), "int64")


@pytest.mark.parametrize(
    ("text", "shape", "size"),
    [
        ("action", (1, 4, 2), (4, 2)),
        ("action", (4, 2), (4, 2)),
        ("action", (7,), (7, 1)),
        ("action", (1, 7), (1, 7)),
        ("action,axis=2", (1, 3, 5), (5, 3)),
        ("action,axis=-1", (2, 3, 5), (5, 6)),
    ],
)
def test_commands_are_read_along_time_and_written_back(
    text: str, shape: tuple[int, ...], size: tuple[int, int]
) -> None:
    read = reader(text, shape)
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    commands = read.read(array, {})
    assert commands.shape == size == (read.length, read.width)
    np.testing.assert_array_equal(commands[0, 0], array.reshape(-1)[0])
    np.testing.assert_array_equal(read.write(commands, {}), array)


def test_a_relative_chunk_is_read_from_the_pose_of_its_observation() -> None:
    read = reader("action,kind=relative,base=state,columns=3:-:0", (1, 4, 3))
    observation = {"state": np.arange(8, dtype=np.float32)[None] + 1}
    array = np.ones((1, 4, 3), np.float32)
    commands = read.read(array, observation)
    np.testing.assert_array_equal(commands, np.tile([5.0, 1.0, 2.0], (4, 1)))
    later = {"state": np.zeros((1, 8), np.float32)}  # the same targets, seen from elsewhere
    np.testing.assert_array_equal(read.write(commands, later)[0, 0], [5.0, 1.0, 2.0])
    np.testing.assert_array_equal(read.write(commands, observation), array)


def test_the_entropy_of_logits() -> None:
    assert entropy_of(np.array([[0.25]])) == 0.25
    assert entropy_of(np.zeros((1, 3, 8), np.float32)) == pytest.approx(np.log(8))
    assert entropy_of(np.array([[0.0, -np.inf], [100.0, 0.0]])) == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(entropy_of(np.array([0.0, np.nan])))
