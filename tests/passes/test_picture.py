"""What counts as a picture, and how it lies in its tensor."""

from __future__ import annotations

import pytest

from vlacut.tensor import TensorSpec
from vlacut.tensor.picture import Pictures, pictures_in


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((480, 640, 3), "uint8", Pictures(1, 480, 640, 3, False)),
        ((480, 640, 4), "uint8", Pictures(1, 480, 640, 4, False)),
        ((2, 480, 640, 3), "float32", Pictures(2, 480, 640, 3, False)),
        ((2, 3, 96, 64, 3), "uint8", Pictures(6, 96, 64, 3, False)),
        ((3, 224, 200), "uint8", Pictures(1, 224, 200, 3, True)),
        ((1, 3, 224, 224), "float32", Pictures(1, 224, 224, 3, True)),
        ((2, 6, 224, 200), "float32", Pictures(2, 224, 200, 3, True)),
        ((2, 6, 224, 200), "uint8", Pictures(4, 224, 200, 3, True)),
        ((1, 3, 4, 224), "uint8", None),
        ((4, 224, 3), "uint8", None),
        ((1, 16, 224, 224), "uint8", None),
        ((224, 224), "uint8", None),
        ((0, 224, 224, 3), "uint8", None),
    ],
)
def test_what_a_picture_is(shape: tuple[int, ...], dtype: str, expected: Pictures | None) -> None:
    assert pictures_in(TensorSpec("x", dtype, shape)) == expected
