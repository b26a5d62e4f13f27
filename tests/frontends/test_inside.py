"""Weights inside an ONNX file are mapped out of it, and never copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from vlacut.compiler.trace_cache import TraceCache
from vlacut.compiler.tracing import traced_program
from vlacut.frontends.inside import weight_spans
from vlacut.frontends.onnx import read_graph

LARGE = np.arange(1 << 16, dtype=np.float32).reshape(256, 256)
SMALL = np.ones((256, 4), np.float32)


def written(path: Path, *, raw: bool = True, more: bytes = b"") -> Path:
    """A file of `x @ large @ small`."""
    if raw:
        large = numpy_helper.from_array(LARGE, "large")
    else:
        large = helper.make_tensor("large", onnx.TensorProto.FLOAT, LARGE.shape, LARGE.ravel())
    nodes = [
        helper.make_node("MatMul", ["x", "large"], ["h"]),
        helper.make_node("MatMul", ["h", "small"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, width])
        for name, width in (("x", 256), ("y", 4))
    ]
    weights = [large, numpy_helper.from_array(SMALL, "small")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10, producer_name="someone"
    )
    path.write_bytes(model.SerializeToString() + more)
    return path


def test_a_large_weight_refers_to_its_place(tmp_path: Path) -> None:
    file = written(tmp_path / "m.onnx")
    weights = read_graph(file).graph.initializers
    large = weights["large"].const_value
    assert isinstance(large, ir.ExternalTensor)
    assert Path(large.path) == file
    np.testing.assert_array_equal(large.numpy(), LARGE)
    np.testing.assert_array_equal(weights["small"].const_value.numpy(), SMALL)
    start, end = weight_spans(file)["large"]
    assert file.read_bytes()[start:end] == LARGE.tobytes()


def test_an_entry_of_the_cache_holds_none_of_it(tmp_path: Path) -> None:
    file, cache = written(tmp_path / "m.onnx"), TraceCache(tmp_path / "traces")
    traced_program(str(file), {}, cache, pytest.fail)
    (entry,) = cache.entries()
    kept = [path for path in (cache.folder / entry.key).rglob("*") if path.is_file()]
    assert kept
    assert not any(LARGE.tobytes()[:4096] in path.read_bytes() for path in kept)
    found = traced_program(str(file), {}, cache, pytest.fail)
    weights = found.phases[0].model.graph.initializers
    np.testing.assert_array_equal(weights["large"].const_value.numpy(), LARGE)


def test_numbers_that_are_no_raw_bytes_stay(tmp_path: Path) -> None:
    file = written(tmp_path / "m.onnx", raw=False)
    assert "large" not in weight_spans(file)
    large = read_graph(file).graph.initializers["large"].const_value
    np.testing.assert_array_equal(large.numpy(), LARGE)


def test_two_graphs_that_protobuf_would_merge_are_left_to_it(tmp_path: Path) -> None:
    more = onnx.ModelProto(graph=onnx.GraphProto(name="more")).SerializeToString()
    file = written(tmp_path / "m.onnx", more=more)
    assert weight_spans(file) == {}
    np.testing.assert_array_equal(
        read_graph(file).graph.initializers["large"].const_value.numpy(), LARGE
    )


@given(st.binary(min_size=1, max_size=200))
def test_bytes_that_are_no_message_have_no_weights(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "bytes.onnx"
    file.write_bytes(data)
    for start, end in weight_spans(file).values():
        assert 0 < start <= end <= len(data)
