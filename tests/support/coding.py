"""What a codec makes of an array, there and back."""

from __future__ import annotations

import numpy as np

from vlacut.runtime.wire.codecs import coder_of
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec, coded_bytes


def encoded(codec: Codec, array: np.ndarray, dtype: str = "") -> np.ndarray:
    spec = TensorSpec("x", dtype or str(array.dtype), array.shape)
    out = np.full(coded_bytes(codec, spec), 0xAB, np.uint8)
    return out[: coder_of(codec, spec).encode(array, out)]


def decoded(codec: Codec, coded: np.ndarray, like: np.ndarray, dtype: str = "") -> np.ndarray:
    spec = TensorSpec("x", dtype or str(like.dtype), like.shape)
    out = np.full(spec.numpy_shape, 77, spec.numpy_dtype)
    coder_of(codec, spec).decode(coded, out)
    return out


def there_and_back(codec: Codec, array: np.ndarray, dtype: str = "") -> np.ndarray:
    return decoded(codec, encoded(codec, array, dtype), array, dtype)
