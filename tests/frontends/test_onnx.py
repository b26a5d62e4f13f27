"""The front end for ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.onnx_text import write
from support.torch_models import run_graph, run_program

from vlacut.errors import ModelError
from vlacut.frontends.onnx import load_graph, onnx_program
from vlacut.ir.verifier import verify

FLOAT = onnx.TensorProto.FLOAT


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_a_file_is_a_program_of_one_phase(tmp_path: Path) -> None:
    path = write(
        tmp_path / "policy.onnx",
        "g (float[2,3] x) => (float[2,4] y) { y = MatMul(x, w) }",
        {"w": np.arange(12, dtype=np.float32).reshape(3, 4)},
    )
    program = onnx_program(path)
    verify(program)
    assert program.name == "policy"
    assert [phase.name for phase in program.phases] == ["main"]
    assert [str(spec) for spec in program.inputs] == ["x: float32[2, 3]"]
    made = run_program(program, {"x": ones(2, 3)})["y"]
    np.testing.assert_array_equal(made, [[12, 15, 18, 21]] * 2)


def test_weights_in_external_files_stay_there(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        "g (float[1,64] x) => (float[1,64] y) { y = MatMul(x, w) }",
        {"w": np.eye(64, dtype=np.float32) * 2},
    )
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="m.bin", size_threshold=0)
    loaded = load_graph(path)
    tensor = loaded.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    np.testing.assert_array_equal(tensor.numpy(), np.eye(64) * 2)
    (tmp_path / "m.bin").write_bytes(b"0" * 100)
    with pytest.raises(ModelError, match=r"m\.onnx: file m\.bin of weight w is cut short"):
        load_graph(path)
    (tmp_path / "m.bin").unlink()
    with pytest.raises(ModelError, match=r"file m\.bin of weight w is missing"):
        load_graph(path)
    tensor = model.graph.initializer[0]
    tensor.external_data[0].value = "../secret.bin"
    (tmp_path / "secret.bin").write_bytes(bytes(64 * 64 * 4))
    inner = tmp_path / "inner" / "m.onnx"
    inner.parent.mkdir()
    inner.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="outside the model's folder"):
        load_graph(inner)


def test_dynamic_dimensions_are_bound_everywhere(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        "g (float[batch,3,h,w] image, float[batch,k] state) => (float[batch,n] y) {"
        " s = Shape<start=0,end=1>(image) m = Constant<value_ints=[-1]>()"
        " t = Concat<axis=0>(s, m) f = Reshape(image, t) y = Concat<axis=1>(f, state) }",
    )
    program = onnx_program(path, {"image": (2, 3, 4, 4), "state": (2, 5)})
    verify(program)
    assert str(program.outputs[0]) == "y: float32[2, 53]"
    image = np.arange(96, dtype=np.float32).reshape(2, 3, 4, 4)
    made = run_program(program, {"image": image, "state": ones(2, 5)})["y"]
    np.testing.assert_array_equal(made[:, :48], image.reshape(2, 48))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            {},
            r"not bound: image \[batch, 3, h, w\], state \[batch, 4\]; bind them, e\.g\. "
            r"--shape image=1x3x224x224 --shape state=1x4",
        ),
        ({"state": (1, 4)}, r"not bound: image \[1, 3, h, w\]; .*--shape image=1x3x224x224"),
        ({"picture": (1, 3, 8, 8)}, "no input picture to bind; its inputs: image, state"),
        ({"image": (1, 3, 8)}, r"image is \[batch, 3, h, w\], which 1x3x8 does not fit"),
        ({"image": (1, 4, 8, 8)}, r"image is \[batch, 3, h, w\], which 1x4x8x8 does not fit"),
        (
            {"image": (1, 3, 8, 8), "state": (2, 4)},
            "state binds dimension batch to 2, another input binds it to 1",
        ),
    ],
)
def test_unbound_or_misbound_dimensions_are_named(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    path = write(
        tmp_path / "m.onnx",
        "g (float[batch,3,h,w] image, float[batch,4] state) => (float[batch,3,h,w] y)"
        " { y = Tanh(image) }",
    )
    with pytest.raises(ModelError, match=message):
        onnx_program(path, shapes)


def test_one_bound_name_binds_the_other_input(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx", "g (float[n,3] a, float[n,3] b) => (float[n,3] y) { y = Add(a, b) }"
    )
    program = onnx_program(path, {"a": (7, 3)})
    verify(program)
    assert [spec.shape for spec in (*program.inputs, *program.outputs)] == [(7, 3)] * 3


def test_a_shape_that_depends_on_values_is_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        "g (float[4] x) => (int64[1,n] y) { i = NonZero(x) y = Abs(i) }",
    )
    with pytest.raises(ModelError, match=r"shapes of 2 values depend on .*\(NonZero\)"):
        load_graph(path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{ n1 = Frobnicate(x) y = Tanh(n1) }", r"node n_0: unknown operator Frobnicate .*20"),
        ("{ y = acme.Magic(x) }", r"unknown operator acme\.Magic .*acme.*does not import"),
        ("{ y = Tanh(z) }", "is no valid ONNX model: .*z"),
    ],
)
def test_an_invalid_graph_is_named(tmp_path: Path, body: str, message: str) -> None:
    path = write(tmp_path / "m.onnx", f"g (float[2] x) => (float[2] y) {body}")
    model = onnx.load(path)
    for index, node in enumerate(model.graph.node):
        node.name = f"n_{index}"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=message) as caught:
        load_graph(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("opset", [1, 6])
def test_an_operator_set_that_nothing_runs_is_refused_by_name(tmp_path: Path, opset: int) -> None:
    body = "g (float[2] x) => (float[2] y) { [first] n = Tanh(x) y = Tanh(n) }"
    path = write(tmp_path / "m.onnx", body, opset=opset)
    with pytest.raises(ModelError, match=rf"node first \(Tanh\) is of operator set {opset}, .*7"):
        load_graph(path)
    load_graph(write(tmp_path / "m.onnx", body, opset=7))


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    good = write(
        tmp_path / "good.onnx",
        "g (float[8,8] x) => (float[8,8] y) { y = MatMul(x, w) }",
        {"w": ones(8, 8)},
    )
    bad = tmp_path / "bad.onnx"
    for content in (b"", b"hello, this is text\n" * 9, good.read_bytes()[:-50], bytes(100)):
        bad.write_bytes(content)
        with pytest.raises(ModelError, match=r"bad\.onnx: is no ONNX model, or is cut short"):
            load_graph(bad)
    with pytest.raises(ModelError, match=r"none\.onnx: no such file"):
        load_graph(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    "body",
    [
        "g (string[2] x) => (string[2] y) { y = Identity(x) }",
        "g (float[2] x) => (float[2] y) {"
        " s = SequenceConstruct(x) y = ConcatFromSequence<axis=0>(s) }",
        "g (float[2] x) => (float[2] y) { s = Cast<to=8>(x) y = Cast<to=1>(s) }",
    ],
)
def test_what_is_no_tensor_of_numbers_is_refused(tmp_path: Path, body: str) -> None:
    with pytest.raises(ModelError, match="only dense tensors of numbers can be compiled"):
        load_graph(write(tmp_path / "m.onnx", body))


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        "g (float[2] x) => (float[2] y) { a = local.Twice(x) y = local.Twice(a) }",
        functions='<domain: "local", opset_import: ["": 20]> Twice (x) => (y) { y = Add(x, x) }',
    )
    program = onnx_program(path)
    verify(program)
    assert [node.op_type for node in program.phases[0].model.graph] == ["Add", "Add"]
    np.testing.assert_array_equal(run_program(program, {"x": ones(2)})["y"], [4, 4])


def test_the_graph_comes_in_normal_form(tmp_path: Path) -> None:
    """Nodes unnamed and unsorted, an output that is an input, one that is a weight, one twice."""
    nodes = [
        onnx.helper.make_node("Add", ["a", "w"], ["b"], name="same"),
        onnx.helper.make_node("Tanh", ["x"], ["a"], name="same"),
        onnx.helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0]),
    ]
    outputs = [
        onnx.helper.make_tensor_value_info(name, FLOAT, [2]) for name in ("b", "x", "w", "c")
    ]
    graph = onnx.helper.make_graph(
        [nodes[1], nodes[0], nodes[2]],
        "g",
        [onnx.helper.make_tensor_value_info(name, FLOAT, [2]) for name in ("x", "w")],
        outputs,
        [onnx.numpy_helper.from_array(ones(2), "w")],
    )
    model = onnx.helper.make_model(
        graph, ir_version=3, opset_imports=[onnx.helper.make_opsetid("", 9)]
    )
    del model.graph.node[2]
    model.graph.node.append(
        onnx.helper.make_node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(ones(2)))
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    program = onnx_program(path)
    verify(program)
    assert program.phases[0].model.graph.opset_imports[""] >= 18
    assert program.phases[0].input_names == ("x",)
    made = list(run_graph(program.phases[0].model, {"x": ones(2)}).values())
    np.testing.assert_allclose(made, [np.tanh(ones(2)) + 1, ones(2), ones(2), ones(2)], rtol=1e-6)


def test_weights_of_a_branch_are_weights_of_the_graph(tmp_path: Path) -> None:
    branches = {}
    for name, factor in (("then_branch", 2.0), ("else_branch", 3.0)):
        weight = onnx.numpy_helper.from_array(np.full(2, factor, np.float32), "w")
        node = onnx.helper.make_node("Mul", ["x", "w"], ["m"])
        output = onnx.helper.make_tensor_value_info("m", FLOAT, [2])
        branches[name] = onnx.helper.make_graph([node], name, [], [output], [weight])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("If", ["c"], ["y"], **branches)],
        "g",
        [
            onnx.helper.make_tensor_value_info("x", FLOAT, [2]),
            onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []),
        ],
        [onnx.helper.make_tensor_value_info("y", FLOAT, [2])],
    )
    path = tmp_path / "m.onnx"
    opset = [onnx.helper.make_opsetid("", 20)]
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=opset)
    path.write_bytes(model.SerializeToString())
    program = onnx_program(path)
    verify(program)
    assert len(program.phases[0].model.graph.initializers) == 2
    for chosen, factor in ((True, 2), (False, 3)):
        made = run_program(program, {"x": ones(2), "c": np.array(chosen)})["y"]
        np.testing.assert_array_equal(made, ones(2) * factor)


def test_a_shape_in_a_branch_comes_of_a_weight_of_the_branch(tmp_path: Path) -> None:
    body = """
      g (float[2,3] x, bool c) => (float[2,3] y) {
        y = If (c) <
          then_branch = then () => (float[2,3] a) {
            size = Constant <value_ints = [2, 0]> ()
            a, rest = Split <axis = 0> (x, size)
          },
          else_branch = otherwise () => (float[2,3] n) { n = Neg (x) }
        >
      }
    """
    model = load_graph(write(tmp_path / "m.onnx", body))
    (inner,) = [graph for graph in model.graphs() if graph.name == "then"]
    assert [value.shape for node in inner for value in node.outputs] == [(2, 3), (0, 3)]
    assert not inner.initializers


def test_a_shape_in_a_branch_that_depends_on_values_is_refused(tmp_path: Path) -> None:
    body = """
      g (float[3] x, bool c) => (float y) {
        y = If (c) <
          then_branch = then () => (float a) {
            where = NonZero (x)
            kept = Gather (x, where)
            a = ReduceSum <keepdims = 0> (kept)
          },
          else_branch = otherwise () => (float n) { n = ReduceSum <keepdims = 0> (x) }
        >
      }
    """
    with pytest.raises(ModelError, match=r"shapes of 2 values depend .*\(NonZero\)"):
        load_graph(write(tmp_path / "m.onnx", body))


ESCAPES = "\x1b]0;title\x07\nvlacut: all is well"


def named(tmp_path: Path, given: str = "x", inner: str = "z", weight: str = "w") -> Path:
    nodes = [
        onnx.helper.make_node("Add", [given, weight], [inner], name=inner),
        onnx.helper.make_node("Neg", [inner], ["y"], name=f"{inner}2"),
    ]
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [info(given, FLOAT, [2])],
        [info("y", FLOAT, [2])],
        [onnx.numpy_helper.from_array(ones(2), weight)],
    )
    opset = [onnx.helper.make_opsetid("", 20)]
    path = tmp_path / "m.onnx"
    path.write_bytes(
        onnx.helper.make_model(graph, ir_version=10, opset_imports=opset).SerializeToString()
    )
    return path


def test_no_name_moves_a_terminal_s_cursor(tmp_path: Path) -> None:
    for interface in ({"given": ESCAPES}, {"weight": ESCAPES}):
        with pytest.raises(ModelError, match=r"the name .*x1b.* does not print; rename it"):
            load_graph(named(tmp_path, **interface))
    graph = load_graph(named(tmp_path, inner=ESCAPES)).graph
    names = [node.name for node in graph] + [value.name for node in graph for value in node.outputs]
    assert all(str(name).isprintable() for name in names)
    assert names[0] == "_]0;title__vlacut: all is well"
    load_graph(named(tmp_path, given="画像", weight="poids"))


def test_a_hostile_reference_or_shape_is_one_line(tmp_path: Path) -> None:
    path = named(tmp_path)
    for location in ("a\0b", "../m.onnx", "/etc/passwd", "."):
        model = onnx.load(path)
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": location, "offset": "0", "length": "8"}.items():
            weight.external_data.add(key=key, value=value)
        hostile = tmp_path / "hostile.onnx"
        hostile.write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match="weight w "):
            load_graph(hostile)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -5
    hostile.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"input x has a negative dimension"):
        load_graph(hostile)
