"""What runs make lies in one arena, however many sessions a process has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import pytest

from vlacut_backends.onnxruntime.build import OnnxRuntimeBuilder
from vlacut_backends.onnxruntime.opening import open_session

_MADE = 64 << 20  # bytes of what a run makes on its way
_BODY = """<ir_version: 10, opset_import: ["": 20]>
main (float[1] x, int64[1] size) => (float[1] y) {
  many = Expand(x, size)
  more = Neg(many)
  y = ReduceSum<keepdims = 0>(more, axis)
}"""


def _anonymous() -> int:
    """Bytes of this process that no file has."""
    text = Path("/proc/self/smaps_rollup").read_text()
    (line,) = (one for one in text.splitlines() if one.startswith("Anonymous:"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read on Linux")
def test_more_sessions_take_no_more_memory_for_what_they_make() -> None:
    model = onnx.parser.parse_model(_BODY)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.int64), "axis"))
    recipe = OnnxRuntimeBuilder().recipe()
    given = {"x": np.ones(1, np.float32), "size": np.array([_MADE // 4], np.int64)}
    held, taken = [], []
    for _ in range(4):
        before = _anonymous()
        held.append(open_session(model.SerializeToString(), "part", recipe))
        (made,) = held[-1].run(None, given)
        assert made == -_MADE // 4
        taken.append(_anonymous() - before)
    assert sum(taken[1:]) < 2 * _MADE, taken  # the arena may have grown; six times it is without
