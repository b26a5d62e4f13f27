"""ONNX files as others write them: branches, loops, computed shapes, names that are none, and
operators that ONNX does not define. Each compiles, is cut, and equals ONNX Runtime on the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from support.cutting import cut_at_random
from support.onnx_text import write

import vlacut
from vlacut.errors import BackendError, ModelError
from vlacut.frontends.onnx import onnx_program
from vlacut.ir.annotation import EXAMPLE, UNPRICED
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program
from vlacut.ir.verifier import verify

Arrays = Mapping[str, np.ndarray]


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def ramp(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 7 - 1


def run_file(path: Path, given: Arrays) -> list[np.ndarray]:
    """What ONNX Runtime makes of the file itself."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    return session.run(None, {item.name: given[item.name] for item in session.get_inputs()})


def same_as_the_file(path: Path, given: Arrays) -> Program:
    """Bound to the shapes of what is given, cut, and run: the file's own outputs."""
    program = onnx_program(path, {name: array.shape for name, array in given.items()})
    verify(program)
    parse_pipeline("simplify").run(program)
    EXAMPLE.put(program, dict(given))
    (made,) = cut_at_random(program, 1)
    for one, other in zip(made, run_file(path, given), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    return program


def operators(program: Program) -> list[str]:
    return [node.op_type for node in program.phases[0].model.graph]


BY_RANK = """
    g (float[batch, n] x) => (float[batch, m] y) {
        s = Shape(x)
        r = Shape(s)
        two = Constant<value_ints=[2]>()
        flat = Equal(r, two)
        a = If(flat) <
            then_branch = t () => (float[a, b] p) {
                z = Constant<value_ints=[0]>()
                one = Constant<value_ints=[1]>()
                n = Slice(s, one, two)
                pads = Concat<axis=0>(z, one, z, n)
                p = Pad<mode="wrap">(x, pads)
            },
            else_branch = e () => (float[c] q) { q = Squeeze(x) }
        >
        y = Tanh(a)
    }
"""


def test_a_branch_that_shapes_decide_stands_in_its_place(tmp_path: Path) -> None:
    """The other one would not even be of the same rank; the pads of the chosen are computed."""
    path = write(tmp_path / "m.onnx", BY_RANK)
    program = same_as_the_file(path, {"x": ramp(2, 3)})
    assert operators(program) == ["Pad", "Tanh"]
    assert str(program.outputs[0]) == "y: float32[2, 7]"


BY_VALUE = """
    g (float[n, 3] x, bool c) => (float[m, 3] y) {
        a = If(c) <
            then_branch = t () => (float[k, 3] p) {
                s = Shape<start=0, end=1>(x)
                rest = Constant<value_ints=[1]>()
                half = Concat<axis=0>(s, rest)
                h = Expand(one, half)
                p = Add(x, h)
            },
            else_branch = e () => (float[k, 3] q) {
                f = Mul(x, x)
                q = Sub(f, one)
            }
        >
        y = Abs(a)
    }
"""


def test_a_branch_that_numbers_decide_has_one_shape(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", BY_VALUE, {"one": ones(1)})
    for chosen in (True, False):
        program = same_as_the_file(path, {"x": ramp(2, 3), "c": np.array(chosen)})
        assert operators(program) == ["If", "Abs"]


def test_branches_of_two_shapes_are_refused_by_name(tmp_path: Path) -> None:
    body = """g (float[2] x, bool c) => (float[n] y) {
        y = If(c) <
            then_branch = t () => (float[a] p) { p = Concat<axis=0>(x, x) },
            else_branch = e () => (float[a] q) { q = Neg(x) }
        >
    }"""
    with pytest.raises(ModelError, match=r"\(If\)"):
        onnx_program(write(tmp_path / "m.onnx", body))


def loop(count: str, trip: str, made: str, behind: str, first: str = "x") -> str:
    return f"""g (float[n, 2] x) => (float[m, 2] y) {{
        go = Constant<value_int=1>()
        begin = Cast<to=9>(go)
        {count}
        out, all = Loop(trips, begin, {first}) <
            body = b (int64 i, bool more, float[r, 2] v) => (bool again, {made}) {{
                again = Identity(more)
                {trip}
            }}
        >
        {behind}
    }}"""


def test_a_loop_that_keeps_its_shape_stays_one(tmp_path: Path) -> None:
    body = loop(
        "trips = Constant<value_int=3>()",
        "f = CastLike(i, v) w = Add(v, f) row = ReduceSum<keepdims=0>(w, zero)",
        "float[r, 2] w, float[2] row",
        "y = Concat<axis=0>(out, all)",
    )
    path = write(tmp_path / "m.onnx", body, {"zero": np.array([0])})
    program = same_as_the_file(path, {"x": ramp(4, 2)})
    assert operators(program) == ["Loop", "Concat"]
    assert str(program.outputs[0]) == "y: float32[7, 2]"


def test_a_loop_that_grows_is_unrolled(tmp_path: Path) -> None:
    """As many trips as there are rows: the count is computed from a shape."""
    body = loop(
        "s = Shape<start=0, end=1>(x) trips = Squeeze(s)",
        "w = Concat<axis=0>(v, v) row = ReduceSum<keepdims=0>(w, zero)",
        "float[r2, 2] w, float[2] row",
        "y = Concat<axis=0>(out, all)",
    )
    path = write(tmp_path / "m.onnx", body, {"zero": np.array([0])})
    program = same_as_the_file(path, {"x": ramp(3, 2)})
    assert "Loop" not in operators(program)
    assert str(program.outputs[0]) == "y: float32[27, 2]"


def test_a_loop_that_computes_a_shape_becomes_a_constant(tmp_path: Path) -> None:
    """`while n < 20: n *= 2`, and x is repeated n times."""
    body = """g (float[3] x) => (float[m] y) {
        most = Constant<value_int=9223372036854775807>()
        one = Constant<value_int=1>()
        begin = Cast<to=9>(one)
        n = Loop(most, begin, one) <
            body = b (int64 i, bool more, int64 v) => (bool again, int64 w) {
                two = Constant<value_int=2>()
                limit = Constant<value_int=20>()
                w = Mul(v, two)
                again = Less(w, limit)
            }
        >
        axis = Constant<value_ints=[0]>()
        times = Unsqueeze(n, axis)
        y = Tile(x, times)
    }"""
    program = same_as_the_file(write(tmp_path / "m.onnx", body), {"x": ramp(3)})
    assert operators(program) == ["Tile"]
    assert str(program.outputs[0]) == "y: float32[96]"


def test_a_loop_of_more_trips_than_a_graph_may_have_is_refused(tmp_path: Path) -> None:
    body = loop(
        "trips = Constant<value_int=1000000>()",
        "w = Concat<axis=0>(v, v) row = ReduceSum<keepdims=0>(w, zero)",
        "float[r2, 2] w, float[2] row",
        "y = Identity(out)",
    )
    path = write(tmp_path / "m.onnx", body, {"zero": np.array([0])})
    with pytest.raises(ModelError, match=r"first those made by .*\(Loop\)"):
        onnx_program(path, {"x": (3, 2)})


PADDED = """
    g (float[n, 3] x) => (float[a, b] y) {
        given = Constant<value_ints=[1, 2]>()
        count = Size(given)
        two = Constant<value_int=2>()
        all = Mul(two, count)
        rank = Constant<value_int=2>()
        twice = Mul(rank, two)
        missing = Sub(twice, count)
        zero = Constant<value_ints=[0]>()
        more = Unsqueeze(missing, zero)
        zeros = ConstantOfShape<value = int64[1] {0}>(more)
        flat = Concat<axis=0>(given, zeros)
        form = Constant<value_ints=[-1, 2]>()
        pairs = Reshape(flat, form)
        last = Constant<value_ints=[-1]>()
        end = Constant<value_ints=[-9223372036854775807]>()
        turned = Slice(pairs, last, end, zero, last)
        swapped = Transpose<perm=[1, 0]>(turned)
        line = Reshape(swapped, last)
        pads = Cast<to=7>(line)
        y = Pad(x, pads)
    }
"""


def test_a_pad_whose_shape_is_computed(tmp_path: Path) -> None:
    """As torch's older exporter writes `F.pad(x, (1, 2))`."""
    program = same_as_the_file(write(tmp_path / "m.onnx", PADDED), {"x": ramp(2, 3)})
    assert operators(program) == ["Pad"]
    assert str(program.outputs[0]) == "y: float32[2, 6]"


@pytest.mark.parametrize("name", ["?", "-1", "None", "*"])
def test_a_dimension_without_a_name_is_one_of_its_own(tmp_path: Path, name: str) -> None:
    body = "g (float[a, b] x, float[c] k) => (float[d, e] y) { y = Add(x, k) }"
    path = write(tmp_path / "m.onnx", body)
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_param = name
    path.write_bytes(model.SerializeToString())
    program = same_as_the_file(path, {"x": ramp(2, 3), "k": ramp(3)})
    assert str(program.outputs[0]) == "y: float32[2, 3]"


def foreign(path: Path, body: str, weights: Arrays | None = None) -> Path:
    """A file that imports ONNX Runtime's own operators."""
    write(path, body, weights)
    model = onnx.load(path)
    model.opset_import.append(onnx.OperatorSetIdProto(domain="com.microsoft", version=1))
    path.write_bytes(model.SerializeToString())
    return path


MICROSOFT = """
    g (float[n, 8] x) => (float[n, 4] y) {
        h = com.microsoft.SkipLayerNormalization(x, x, gamma, beta)
        f = com.microsoft.FusedMatMul<alpha=0.5>(h, w)
        b = com.microsoft.BiasGelu(f, bias)
        y = com.microsoft.QuickGelu<alpha=1.702>(b)
    }
"""
WEIGHTS = {"gamma": ones(8), "beta": ones(8), "w": ramp(8, 4), "bias": ramp(4)}


def test_operators_of_onnx_runtime_pass_through(tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.onnx", MICROSOFT, WEIGHTS)
    program = same_as_the_file(path, {"x": ramp(3, 8)})
    assert len(operators(program)) == 4
    parse_pipeline("annotate-cost").run(program)
    said = UNPRICED.get(program)
    assert "com.microsoft::FusedMatMul" in said
    assert "com.microsoft::QuickGelu" in said


def test_operators_of_onnx_runtime_in_a_branch(tmp_path: Path) -> None:
    body = """g (float[2, 4] x, bool c) => (float[2, n] y) {
        y = If(c) <
            then_branch = t () => (float[2, m] p) { p = com.microsoft.QuickGelu(x) },
            else_branch = e () => (float[2, m] q) { q = com.microsoft.FusedMatMul(x, eye) }
        >
    }"""
    path = foreign(tmp_path / "m.onnx", body, {"eye": np.eye(4, dtype=np.float32)})
    same_as_the_file(path, {"x": ramp(2, 4), "c": np.array(True)})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("y = com.microsoft.Frobnicate(x)", "Frobnicate.*ONNX Runtime does not run it"),
        ("y = com.microsoft.QuickGelu(x, x, x)", "QuickGelu.*ONNX Runtime does not run it"),
        (
            "r = Round(x) i = Cast<to=6>(r) f = Cast<to=1>(i) y, j, c = com.microsoft.Unique(f)",
            "Unique.* shapes that depend on numbers",
        ),
    ],
)
def test_an_operator_that_nothing_runs_is_named(tmp_path: Path, body: str, message: str) -> None:
    path = foreign(tmp_path / "m.onnx", f"g (float[4] x) => (float[n] y) {{ {body} }}")
    with pytest.raises(ModelError, match=message) as caught:
        onnx_program(path)
    assert "\n" not in str(caught.value)
    assert "operator.onnx" not in str(caught.value)  # no file of the user's


def test_an_operator_of_trees_is_tried(tmp_path: Path) -> None:
    """`ai.onnx.ml` is ONNX's, but it infers no shapes."""
    body = """g (float[3, 2] x) => (float[3, n] y) {
        y = ai.onnx.ml.Scaler<offset=[1.0, 2.0], scale=[0.5, 2.0]>(x)
    }"""
    path = write(tmp_path / "m.onnx", body)
    model = onnx.load(path)
    model.opset_import.append(onnx.OperatorSetIdProto(domain="ai.onnx.ml", version=1))
    path.write_bytes(model.SerializeToString())
    program = same_as_the_file(path, {"x": ramp(3, 2)})
    assert str(program.outputs[0]) == "y: float32[3, 2]"


def test_a_dimension_of_minus_one_is_bound(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", "g (float[a, 4] x) => (float[b, 4] y) { y = Relu(x) }")
    model = onnx.load(path)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"not bound: x \[\?, 4\]"):
        onnx_program(path)
    program = same_as_the_file(path, {"x": ramp(3, 4)})
    assert str(program.outputs[0]) == "y: float32[3, 4]"


def test_an_output_has_the_shape_that_follows(tmp_path: Path) -> None:
    """A file may call a dimension after the batch that is none."""
    body = "g (float[batch, 4] x) => (float[batch] y) { y = ReduceSum<keepdims=0>(x, axis) }"
    path = write(tmp_path / "m.onnx", body, {"axis": np.array([0])})
    program = same_as_the_file(path, {"x": ramp(1, 4)})
    assert str(program.outputs[0]) == "y: float32[4]"


def test_an_output_that_is_a_map_is_named(tmp_path: Path) -> None:
    """As ZipMap makes it, at the end of what sklearn's converter writes."""
    path = write(tmp_path / "m.onnx", "g (float[1, 2] x) => (float[1, 2] y) { y = Relu(x) }")
    model = onnx.load(path)
    numbers = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    named = onnx.helper.make_map_type_proto(onnx.TensorProto.INT64, numbers)
    model.graph.output[0].type.CopyFrom(onnx.helper.make_sequence_type_proto(named))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="value y is a sequence; only dense tensors of numbers"):
        onnx_program(path)


SETS = "g (float[n, 3, 8, 8] x) => (float[n, k] y) {"


@pytest.mark.parametrize("opset", range(7, 25))
def test_every_operator_set_that_runs(tmp_path: Path, opset: int) -> None:
    """What changed between the sets: pads, axes, ratios and bounds became inputs."""
    weights = {"w": ramp(4, 3, 3, 3)}
    pad = 'p = Pad<pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="reflect">(x)'
    drop, squeeze = "d = Dropout<ratio=0.5>(s)", "q = Squeeze<axes=[2, 3]>(m)"
    clip = "s = Clip<min=-1.0, max=3.0>(c)"
    total = "r = ReduceSum<axes=[1], keepdims=1>(q)"
    if opset >= 11:
        pad, clip = 'p = Pad<mode="reflect">(x, pads)', "s = Clip(c, low, high)"
        weights |= {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
        weights |= {"low": np.float32(-1), "high": np.float32(3)}
    if opset >= 12:
        drop = "d = Dropout(s)"
    if opset >= 13:
        squeeze, total = "q = Squeeze(m, axes)", "r = ReduceSum<keepdims=1>(q, axis)"
        weights |= {"axes": np.array([2, 3]), "axis": np.array([1])}
    body = f"""{SETS}
        {pad} c = Conv(p, w) {clip} {drop} m = GlobalAveragePool(d) {squeeze} {total}
        z = Softmax<axis=1>(q) y = Add(z, r)
    }}"""
    path = write(tmp_path / "m.onnx", body, weights, opset=opset)
    same_as_the_file(path, {"x": ramp(2, 3, 8, 8)})


def test_a_side_that_cannot_run_a_foreign_operator_is_named(tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.onnx", MICROSOFT, WEIGHTS)
    where = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "10MB/s,20ms"}
    asked = {**where, "shapes": {"x": (3, 8)}, "cache": False}
    bundle = vlacut.compile(str(path), **asked, out=tmp_path / "m.vlacut")
    assert bundle.manifest.model_check.difference == 0
    with pytest.raises(BackendError, match=r"is of domain com\.microsoft, .* --pin these"):
        vlacut.compile(str(path), **asked, backend="tensorrt", out=tmp_path / "t.vlacut")
