"""Tensors by name as an .npz: numpy's format, with any name.

`numpy.savez` takes names as keywords, so it cannot write a tensor that is called `file`.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

# What numpy and zipfile raise for files that are no .npz, or a damaged one.
UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)

_MOST_TIMES, _ALWAYS_BYTES = 100, 1 << 26


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The file that holds these arrays; the same bytes each time."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return data.getvalue()


def read_npz(file: Path | bytes) -> dict[str, np.ndarray]:
    """The arrays by name, of a file or of its bytes. Raises one of `UNREADABLE`; see `reason`.

    One that unpacks to far more than it takes, or claims more than there is, is refused: a file may
    come from anybody.
    """
    with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as opened:
        if not zipfile.is_zipfile(opened):  # numpy would advise to load it with pickle
            raise ValueError("it is no .npz")
        packed = opened.seek(0, io.SEEK_END)
        with zipfile.ZipFile(opened) as archive:
            unpacked = sum(each.file_size for each in archive.infolist())
        if unpacked > _MOST_TIMES * packed + _ALWAYS_BYTES:
            raise ValueError(f"its {packed} bytes unpack to {unpacked}")
        opened.seek(0)
        try:
            with np.load(opened, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except MemoryError as error:
            raise ValueError("it claims more than this machine's memory") from error


def reason(error: Exception) -> str:
    """Why a file could not be read, without its name."""
    return str(getattr(error, "strerror", None) or error)
