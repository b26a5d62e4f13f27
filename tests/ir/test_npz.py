"""Files of arrays, which may come from anybody."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from vlacut.tensor.npz import npz_bytes, read_npz


def packed(header: bytes, content: bytes, method: int) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        archive.writestr("a.npy", header + content)
    return data.getvalue()


def header(count: int) -> bytes:
    made = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(made, described)
    return made.getvalue()


def test_no_file_of_arrays_takes_memory_that_it_does_not_hold() -> None:
    bomb = packed(header(20_000_000), bytes(80_000_000), zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    with pytest.raises(ValueError, match=r"its \d+ bytes unpack to 80000128"):
        read_npz(bomb)
    with pytest.raises(ValueError, match="claims more than this machine's memory"):
        read_npz(packed(header(10**14), b"", zipfile.ZIP_STORED))
    with pytest.raises((ValueError, EOFError), match=r"EOF|reshape|reading"):
        read_npz(packed(header(10**6), b"", zipfile.ZIP_STORED))
    usual = {"file": np.zeros((1000, 1000), np.float32), "b": np.array(1)}
    for data in (npz_bytes(usual), packed(header(10**6), bytes(4 * 10**6), zipfile.ZIP_DEFLATED)):
        assert next(iter(read_npz(data).values())).size == 10**6
