"""Recorded observations, as users have them: an .npz, or a folder of some.

| what an .npz holds          | what that is                                        |
|-----------------------------|-----------------------------------------------------|
| NAME: the shape of an input | one observation                                     |
| NAME: [N, that shape]       | N observations                                      |
| observation/NAME            | the same: what `vlacut run --record` writes         |

Other arrays beside them are left alone. The files of a folder are read in the order of their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vlacut.errors import InputError, ObservationError
from vlacut.tensor.npz import UNREADABLE, read_npz, reason
from vlacut.tensor.spec import TensorSpec

_RECORDED = "observation/"
Observation = dict[str, np.ndarray]


def read_observations(path: Path, specs: Sequence[TensorSpec]) -> list[Observation]:
    """The observations of a file or a folder, each with the tensors that `specs` say.

    Raises InputError that names the file and the tensor that does not fit.
    """
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    found = [one for file in files for one in _of_file(file, specs)]
    if not found:
        raise InputError(f"{path}: holds no observations; write .npz files with an array an input")
    return found


def read_observation(path: Path) -> Observation:
    """The tensors of one .npz by name, as somebody gives a step its observation.

    Whether they fit is for who knows the bundle. Raises ObservationError if it cannot be read.
    """
    try:
        return read_npz(path)
    except UNREADABLE as error:
        raise ObservationError(
            f"{path}: cannot be read: {reason(error)}; write tensors by name with numpy.savez"
        ) from error


def _of_file(file: Path, specs: Sequence[TensorSpec]) -> list[Observation]:
    try:
        arrays = read_npz(file)
    except UNREADABLE as error:
        raise InputError(f"{file}: cannot be read as observations: {reason(error)}") from error
    rows = {spec.name: _rows(file, spec, arrays) for spec in specs}
    counts = {name: len(array) for name, array in rows.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise InputError(f"{file}: has {said}; every observation needs each")
    return [
        {spec.name: _checked(file, spec, rows[spec.name][number]) for spec in specs}
        for number in range(next(iter(counts.values()), 0))
    ]


def _rows(file: Path, spec: TensorSpec, arrays: Observation) -> np.ndarray:
    """One tensor of every observation, [N, the shape of the input]."""
    array = arrays.get(spec.name, arrays.get(f"{_RECORDED}{spec.name}"))
    if array is None:
        known = ", ".join(sorted(arrays)[:8]) or "nothing"
        raise InputError(f"{file}: has no input {spec.name}; it has {known}")
    one = array.ndim == len(spec.numpy_shape) and spec.name in arrays
    return array[np.newaxis] if one else array


def _checked(file: Path, spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    try:
        return spec.check(np.asarray(array))
    except ObservationError as error:
        raise InputError(f"{file}: {error}") from error
