"""pack: the same numbers, each weight read once, and it says what was not joined."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cutting import session
from support.instances import ALL, ATTENDING, LINEAR, ROW_BY_ROW, instances

from vlacut.errors import PassError
from vlacut.ir import verifier
from vlacut.ir.annotation import NOTES
from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Phase, Program
from vlacut_passes.pack import Pack

# The largest difference as a share of the largest magnitude. ONNX Runtime's products of one row
# and of many sum in other orders: 2.1e-7 is the most that 87 random graphs showed.
ROUNDING = 1e-5


def program_of(model: ir.Model) -> Program:
    graph = model.graph
    inputs = tuple(map(value_spec, graph.inputs))
    phase = Phase("main", model)
    return Program("packed", (phase,), inputs, tuple(map(value_spec, graph.outputs)))


def reads(graph: ir.Graph) -> Counter[str]:
    """How many products read each weight, itself or transposed."""
    found: Counter[str] = Counter()
    for node in graph:
        if node.op_type in ("MatMul", "Gemm"):
            value = node.inputs[1]
            maker = value.producer()
            value = maker.inputs[0] if maker is not None else value
            if value.is_initializer():
                found[value.name] += 1
    return found


def run(model: ir.Model, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    engine = session(model)
    names = [one.name for one in engine.get_inputs()]
    made = engine.run(None, {name: given[name] for name in names})
    return dict(zip([one.name for one in engine.get_outputs()], made, strict=True))


def packed_of(model: ir.Model, attention: str = "alone") -> Program:
    program = program_of(model)
    Pack(attention).run(program)
    verifier.verify(program)
    return program


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert other[name].shape == array.shape
        if array.dtype.kind == "f":
            scale = max(np.abs(array).max(), 1e-6)
            assert np.abs(other[name] - array).max() <= ROUNDING * scale, name
        else:
            np.testing.assert_array_equal(other[name], array)


ROWS = st.lists(st.integers(1, 5), min_size=2, max_size=5)
ATTENTION = st.sampled_from(["alone", "batched"])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), rows=ROWS, chained=st.booleans(), attention=ATTENTION)
def test_packed_is_unpacked(seed: int, rows: list[int], chained: bool, attention: str) -> None:
    model, given = instances(seed, rows, ALL, chained)
    before, plain = reads(model.graph), run(model, given)
    program = packed_of(model, attention)
    after = reads(model.graph)
    assert all(after[name] <= before[name] for name in before)
    assert_same(plain, run(program.phases[0].model, given))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), rows=ROWS)
def test_packed_is_unpacked_to_the_bit_where_sums_are_exact(seed: int, rows: list[int]) -> None:
    """Of small whole numbers, in whatever order: what rounding moves is the executor's alone."""
    model, given = instances(seed, rows, LINEAR)
    for value in model.graph.initializers.values():
        array = value.const_value.numpy()
        if array.dtype.kind == "f":
            value.const_value = ir.tensor(np.clip(np.round(2 * array), -1, 1), name=value.name)
    given = {name: np.round(array) for name, array in given.items()}
    plain = run(model, given)
    before = sum(reads(model.graph).values())
    packed_of(model)
    assert sum(reads(model.graph).values()) < before
    for name, array in run(model, given).items():
        assert array.tobytes() == plain[name].tobytes(), name


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), rows=ROWS, attention=ATTENTION)
def test_each_weight_of_independent_instances_is_read_once(
    seed: int, rows: list[int], attention: str
) -> None:
    """As often as one instance alone reads it, however many there are."""
    alone, _ = instances(seed, rows[:1], ALL)
    model, given = instances(seed, rows, ALL)
    plain = run(model, given)
    packed_of(model, attention)
    assert reads(model.graph) == reads(alone.graph)
    assert_same(plain, run(model, given))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), rows=ROWS)
def test_what_works_row_by_row_is_one_operator(seed: int, rows: list[int]) -> None:
    """From the first product on; what lies before that is joined by nothing."""
    alone, _ = instances(seed, rows[:1], ROW_BY_ROW)
    model, _ = instances(seed, rows, ROW_BY_ROW)
    packed_of(model)
    assert behind_first_product(model.graph) == behind_first_product(alone.graph)


def behind_first_product(graph: ir.Graph) -> Counter[str]:
    """Operators by type, without those that put rows together and take them apart."""
    kinds = [node.op_type for node in graph]
    first = min(at for at, kind in enumerate(kinds) if kind in ("MatMul", "Gemm"))
    moved = ("Concat", "Split", "Expand", "Transpose")
    return Counter(kind for kind in kinds[first:] if kind not in moved)


def mixing(graph: ir.Graph) -> int:
    """Products without a weight, as attention has them."""
    made = [node for node in graph if node.op_type in ("MatMul", "Gemm")]
    return len(made) - sum(reads(graph).values())


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    own=st.integers(1, 4),
    others=st.lists(st.integers(1, 4), max_size=2),
    many=st.integers(2, 4),
)
def test_attention_of_instances_of_the_same_shape_is_a_batch(
    seed: int, own: int, others: list[int], many: int
) -> None:
    """One for each number of rows, whoever else is there."""
    rows = [*others, *[own] * many]
    alone, _ = instances(seed, [own], ATTENDING)
    model, given = instances(seed, rows, ATTENDING)
    plain = run(model, given)
    notes = NOTES.get(packed_of(model, "batched"))
    assert mixing(alone.graph) > 0
    assert mixing(model.graph) == len(set(rows)) * mixing(alone.graph)
    assert any("begin an attention are" in line for line in notes)
    assert_same(plain, run(model, given))


def test_attention_is_batched_or_alone() -> None:
    with pytest.raises(PassError, match="did you mean batched"):
        Pack("batch").run(program_of(chain()))


def test_it_says_what_was_joined_and_what_not() -> None:
    model, _ = instances(3, [4, 1, 1], ALL, chained=True)
    notes = NOTES.get(packed_of(model))
    assert any("products of" in line and "weights are" in line for line in notes)


def chain() -> ir.Model:
    """One weight, three times, each after the other."""
    tensor = ir.Value(name="w", shape=ir.Shape([4, 4]), type=ir.TensorType(ir.DataType.FLOAT))
    tensor.const_value = ir.tensor(np.eye(4, dtype=np.float32), name="w")
    entry = ir.Value(name="x", shape=ir.Shape([2, 4]), type=ir.TensorType(ir.DataType.FLOAT))
    nodes, value = [], entry
    for at in range(3):
        node = ir.node("MatMul", [value, tensor], name=f"m{at}")
        value = node.outputs[0]
        value.name, value.shape, value.type = f"y{at}", entry.shape, entry.type
        nodes.append(node)
    graph = ir.Graph(
        [entry], [value], nodes=nodes, initializers=[tensor], opset_imports={"": 20}, name="chain"
    )
    return ir.Model(graph, ir_version=10)


def test_products_that_depend_on_one_another_stay_apart() -> None:
    program = packed_of(chain())
    assert reads(program.phases[0].model.graph) == {"w": 3}
    (line,) = NOTES.get(program)
    assert line == "phase main: products of w are not all joined: they depend on one another"


def test_a_program_without_shared_weights_is_left_alone() -> None:
    model, _ = instances(5, [3])
    before = [(node.name, node.op_type) for node in model.graph]
    program = packed_of(model)
    after = [(node.name, node.op_type) for node in program.phases[0].model.graph]
    assert {kind for _, kind in after} == {kind for _, kind in before}
    assert len(after) <= len(before)


@pytest.mark.parametrize("attention", ["alone", "batched"])
@pytest.mark.parametrize("seed", range(3))
def test_packing_again_changes_nothing(seed: int, attention: str) -> None:
    model, _ = instances(seed, [4, 1, 1, 2])
    packed_of(model, attention)
    before = [(node.name, node.op_type) for node in model.graph]
    packed_of(model, attention)
    assert [(node.name, node.op_type) for node in model.graph] == before


@pytest.mark.parametrize("amounts", [[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 2, 0]])
def test_rows_are_padded_for_each_instance(amounts: list[int]) -> None:
    """In front or behind: joined, the second instance would begin in the first one's padding."""
    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    tensors = {"w": weight, "room": np.array(amounts, np.int64)}
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 20}, name="padded")
    for name, array in tensors.items():
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(value.const_value.dtype)
        graph.initializers.add(value)
    kind, given = ir.TensorType(ir.DataType.FLOAT), {}
    for at in range(2):
        entry = ir.Value(name=f"x{at}", shape=ir.Shape([1, 3, 4]), type=kind)
        product = ir.node("MatMul", [entry, graph.initializers["w"]], name=f"m{at}")
        padded = ir.node("Pad", [product.outputs[0], graph.initializers["room"]], name=f"p{at}")
        for node, rows in ((product, 3), (padded, 3 + sum(amounts))):
            made = node.outputs[0]
            made.name, made.type, made.shape = f"{node.name}.y", kind, ir.Shape([1, rows, 4])
            graph.append(node)
        graph.inputs.append(entry)
        graph.outputs.append(padded.outputs[0])
        given[f"x{at}"] = np.random.default_rng(at + 1).normal(size=(1, 3, 4)).astype(np.float32)
    model = ir.Model(graph, ir_version=10)
    plain = run(model, given)
    packed_of(model)
    assert reads(model.graph) == {"w": 1}
    assert_same(plain, run(model, given))


def test_the_interface_stays() -> None:
    model, _ = instances(1, [2, 3])
    specs = [value_spec(value) for value in (*model.graph.inputs, *model.graph.outputs)]
    packed_of(model)
    assert [value_spec(value) for value in (*model.graph.inputs, *model.graph.outputs)] == specs
