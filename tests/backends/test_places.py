"""A place written into a cache on ONNX Runtime: the same bits for any position, and less work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator
from support.onnx_text import write

from vlacut.frontends.load import load_program
from vlacut.ir.places import place_axis
from vlacut_backends.onnxruntime.build import OnnxRuntimeBuilder
from vlacut_backends.onnxruntime.opening import open_session

CACHE = """main (int64[1] place, float[1,4,1,32] new, float[1,4,40,32] old)
    => (float[1,4,40,32] y) {
    here = Equal(slots, place)
    chosen = Reshape(here, sizes)
    y = Where(chosen, new, old)
}"""
CONSTANTS = {"slots": np.arange(40), "sizes": np.array([1, 1, -1, 1])}
OLD = np.random.default_rng(0).normal(size=(1, 4, 40, 32)).astype(np.float32)
NEW = np.random.default_rng(1).normal(size=(1, 4, 1, 32)).astype(np.float32)


def prepared(
    tmp_path: Path, body: str, constants: dict[str, np.ndarray]
) -> tuple[ir.Model, ir.Model]:
    """The model as it is written, and as the back end prepares it."""
    path = str(write(tmp_path / "cache.onnx", body, constants))
    before, after = (load_program(path).phases[0].model for _ in range(2))
    OnnxRuntimeBuilder().prepare(after, "cache", OnnxRuntimeBuilder().recipe())
    return before, after


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph.all_nodes()]


def ran(model: ir.Model, given: dict[str, np.ndarray]) -> np.ndarray:
    data = ir.to_proto(model).SerializeToString()
    session = open_session(data, "cache", OnnxRuntimeBuilder().recipe())
    return np.asarray(session.run(None, given)[0])


def expected(model: ir.Model, given: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(ReferenceEvaluator(ir.to_proto(model)).run(None, given)[0])


def test_any_position_gives_the_same_bits(tmp_path: Path) -> None:
    before, after = prepared(tmp_path, CACHE, CONSTANTS)
    assert "ScatterND" in kinds(after)
    for place in (0, 1, 39, 40, 1000, -1, -40, np.iinfo(np.int64).min):
        given = {"place": np.array([place]), "new": NEW, "old": OLD}
        assert ran(after, given).tobytes() == expected(before, given).tobytes(), place


def test_what_is_written_may_be_no_number(tmp_path: Path) -> None:
    """A rewriting by sums and products would make NaN of everything."""
    before, after = prepared(tmp_path, CACHE, CONSTANTS)
    new, old = NEW.copy(), OLD.copy()
    new[..., 3], old[..., 5], old[..., 6] = np.nan, np.inf, -0.0
    for place in (7, 40):
        given = {"place": np.array([place]), "new": new, "old": old}
        assert ran(after, given).tobytes() == expected(before, given).tobytes()


BATCH = """main (int32[2,1] place, float[2,4,1,32] new, float[2,4,40,32] old)
    => (float[2,4,40,32] y) {
    here = Equal(place, slots)
    chosen = Unsqueeze(here, axes)
    y = Where(chosen, new, old)
}"""


def test_each_of_a_batch_has_its_own_position(tmp_path: Path) -> None:
    constants = {"slots": np.arange(40, dtype=np.int32), "axes": np.array([1, 3])}
    before, after = prepared(tmp_path, BATCH, constants)
    assert "ScatterND" in kinds(after)
    old, new = np.concatenate([OLD, 2 * OLD]), np.concatenate([NEW, 2 * NEW])
    for places in ((3, 39), (40, 0), (-1, -1)):
        given = {"place": np.array(places, np.int32)[:, None], "new": new, "old": old}
        assert ran(after, given).tobytes() == expected(before, given).tobytes(), places


TWO = """main (int64[1] place, float[1,64] new, float[64,64] one, float[64,64] two)
    => (float[64,64] y, float[64,64] z) {
    here = Equal(slots, place)
    chosen = Reshape(here, sizes)
    y = Where(chosen, new, one)
    z = Where(chosen, new, two)
}"""


def test_writes_of_one_position_share_where_it_is(tmp_path: Path) -> None:
    constants = {"slots": np.arange(64), "sizes": np.array([64, 1])}
    before, after = prepared(tmp_path, TWO, constants)
    assert kinds(after).count("ScatterND") == 2
    assert kinds(after).count("Clip") == 1
    one, two, new = OLD.reshape(-1)[:4096], OLD.reshape(-1)[-4096:], OLD.reshape(-1)[:64]
    given = {"place": np.array([5]), "new": new.reshape(1, 64)}
    given |= {"one": one.reshape(64, 64), "two": two.reshape(64, 64)}
    assert ran(after, given).tobytes() == expected(before, given).tobytes()


INSIDE = """main (int64[1] place, float[1,4,1,32] new, float[1,4,40,32] old, bool flag)
    => (float[1,4,40,32] y) {
    y = If (flag) <
        then_branch = then_graph () => (float[1,4,40,32] a) {
            here = Equal(slots, place)
            chosen = Reshape(here, sizes)
            a = Where(chosen, new, old)
        },
        else_branch = else_graph () => (float[1,4,40,32] b) { b = Neg(old) }
    >
}"""


def test_inside_of_an_operator_too(tmp_path: Path) -> None:
    before, after = prepared(tmp_path, INSIDE, CONSTANTS)
    assert "ScatterND" in kinds(after)
    for flag in (True, False):
        given = {"place": np.array([7]), "new": NEW, "old": OLD, "flag": np.array(flag)}
        assert ran(after, given).tobytes() == expected(before, given).tobytes()


@pytest.mark.parametrize(
    ("what", "replaced", "constants"),
    [
        ("places out of order", {}, {"slots": np.arange(40)[::-1].copy()}),
        ("a comparison of more than one place", {"Equal": "LessOrEqual"}, {}),
        ("a small tensor", {"40": "10"}, {"slots": np.arange(10)}),
        ("every place of its own", {"float[1,4,1,32] new": "float[1,4,40,32] new"}, {}),
        ("a position that is known", {"Equal(slots, place)": "Equal(slots, five)"}, {}),
    ],
)
def test_other_choices_stay(
    tmp_path: Path, what: str, replaced: dict[str, str], constants: dict[str, np.ndarray]
) -> None:
    body = CACHE
    for old, new in replaced.items():
        body = body.replace(old, new)
    given = {**CONSTANTS, "five": np.array([5]), **constants}
    _, after = prepared(tmp_path, body, {key: one for key, one in given.items() if key in body})
    assert "ScatterND" not in kinds(after), what


def test_an_axis_is_found_where_one_place_is_written() -> None:
    assert place_axis((1, 1, 8, 1), (2, 4, 1, 16), (2, 4, 8, 16)) == 2
    assert place_axis((2, 1, 8, 1), (2, 4, 1, 16), (2, 4, 8, 16)) == 2
    assert place_axis((1, 1, 8, 16), (2, 4, 1, 16), (2, 4, 8, 16)) is None
    assert place_axis((3, 1, 8, 1), (2, 4, 1, 16), (2, 4, 8, 16)) is None
    assert place_axis((1, 1, 8, 1), (1, 4, 1, 16), (2, 4, 8, 16)) is None
    assert place_axis((8, 1), (2, 4, 1, 16), (2, 4, 8, 16)) is None
