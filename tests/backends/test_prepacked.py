"""Packed weights of ONNX Runtime's: kept once on a machine, mapped by all, refused when altered."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.helper import make_graph, make_model
from support.onnx_text import write

from vlacut.backend import OWN, SHARED
from vlacut.errors import BackendError
from vlacut.frontends.load import load_program
from vlacut.ir.pipeline import parse_pipeline
from vlacut.split.emission import save
from vlacut.split.weights import WeightStore
from vlacut_backends.onnxruntime import packing, prepacked
from vlacut_backends.onnxruntime.build import OnnxRuntimeBuilder
from vlacut_backends.onnxruntime.execute import OnnxRuntimeEngine, OnnxRuntimeExecutor
from vlacut_backends.onnxruntime.external_data import Packed, Stored, move, stored_in

ROWS = np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)


class Parts:
    """Two parts of one weight in 4 bits: a product, and one whose sum reads another weight."""

    def __init__(self, folder: Path, engines: Path) -> None:
        self.root, self.engines = folder / "bundle", engines

    def load(self, name: str, prepack: str = SHARED) -> OnnxRuntimeEngine:
        recipe = {**OnnxRuntimeBuilder().recipe(), "prepack": prepack}
        engine = OnnxRuntimeExecutor().load(self.root / f"parts/{name}.onnx", self.root, recipe)
        assert isinstance(engine, OnnxRuntimeEngine)
        return engine

    def made(self, name: str, prepack: str = SHARED) -> bytes:
        return self.load(name, prepack).run({"x": ROWS})["y"].tobytes()

    def kept(self, ending: str) -> list[Path]:
        return sorted((self.engines / "onnxruntime" / "packed").glob(f"*{ending}"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the two parts."""
    made = tmp_path_factory.mktemp("packed")
    numbers = np.random.default_rng(0)
    weights = {
        "a": numbers.normal(size=(64, 256)).astype(np.float32),
        "b": numbers.normal(size=(1, 256)).astype(np.float32),
        "c": numbers.normal(size=(64, 272)).astype(np.float32),
        "d": numbers.normal(size=(272, 276)).astype(np.float32),
        "B": numbers.normal(size=(1, 276)).astype(np.float32),  # before the others, of 1104 bytes
    }
    bodies = {
        "one": "main (float[1,64] x) => (float[1,256] y) { y = MatMul(x, a) }",
        "two": "main (float[1,64] x) => (float[1,256] y) { h = MatMul(x, a) y = Add(h, b) }",
        "odd": """main (float[1,64] x) => (float[1,276] y) {
            h = MatMul(x, c) i = MatMul(h, d) y = Add(i, B) }""",
    }
    root = made / "bundle"
    root.mkdir()
    with WeightStore(root) as store:
        for name, body in bodies.items():
            read = {key: value for key, value in weights.items() if f"{key})" in body}
            program = load_program(str(write(made / f"{name}.onnx", body, read)))
            parse_pipeline("quantise{weights=int4 method=rtn observations=1}").run(program)
            model = program.phases[0].model
            OnnxRuntimeBuilder().prepare(model, name, {})
            store.externalise(model)
            save(model, root / "parts" / f"{name}.onnx")
    return made


@pytest.fixture
def parts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    engines = tmp_path / "engines"
    monkeypatch.setenv("VLACUT_ENGINES", str(engines))
    monkeypatch.setattr(prepacked, "_LEAST", 1)
    return Parts(folder, engines)


def test_sessions_of_two_parts_share_the_file_of_one_weight(parts: Parts) -> None:
    own = [parts.made(name, OWN) for name in ("one", "two")]
    assert not parts.kept("")
    for _ in range(2):  # packed, then found
        assert [parts.made(name) for name in ("one", "two")] == own
        assert len(parts.kept(".engine")) == len(parts.kept(".json")) == 2
        # The codes with what was packed of them; that of the sum stays in the bundle.
        assert len(parts.kept(".weights")) == 1


def test_what_is_packed_begins_where_memory_does(parts: Parts) -> None:
    """Kernels look for scales behind their codes from the next multiple of 64 bytes on, and there
    they are not if the codes were moved by less.
    """
    expected = parts.made("odd", OWN)
    assert parts.made("odd") == expected
    (engine,) = parts.kept(".engine")  # else every session has a copy
    assert parts.made("odd") == expected
    packed = [one for one in stored_in(engine.read_bytes()) if one.packed]
    assert len(packed) == 2
    assert all(at % 64 == 0 for one in packed for at, _ in one.places)


def test_what_is_mapped_stays_when_its_files_are_gone(parts: Parts, tmp_path: Path) -> None:
    expected = parts.made("two", OWN)
    parts.root = shutil.copytree(parts.root, tmp_path / "copy")
    engine = parts.load("two")
    for path in [*parts.kept(""), *(parts.root / "weights").iterdir()]:
        path.unlink()
    assert engine.run({"x": ROWS})["y"].tobytes() == expected


def test_what_nothing_packs_is_mapped_where_it_lies(parts: Parts, tmp_path: Path) -> None:
    """And not copied into the session, once it was packed and once it was found."""
    parts.root = shutil.copytree(parts.root, tmp_path / "copy")
    sessions = []
    for _ in range(2):
        sessions.append(parts.load("two"))
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
        assert maps.count(str(parts.root / "weights")) == 2 * len(sessions)  # the scales, the sum's


def test_floats_of_a_bundle_of_many_rows_are_packed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of one row and of many map one file, and give the bits of a session of their own."""
    monkeypatch.setenv("VLACUT_ENGINES", str(tmp_path / "engines"))
    monkeypatch.setattr(prepacked, "_LEAST", 1)
    numbers = np.random.default_rng(0)
    weight = {"a": numbers.normal(size=(256, 320)).astype(np.float32)}
    root, builder = tmp_path / "bundle", OnnxRuntimeBuilder()
    root.mkdir()
    recipe = builder.for_many_rows(builder.recipe())
    with WeightStore(root) as store:
        for rows in (1, 7, 40):
            body = f"main (float[{rows},256] x) => (float[{rows},320] y) {{ y = MatMul(x, a) }}"
            source = write(tmp_path / f"{rows}.onnx", body, weight)
            model = load_program(str(source)).phases[0].model
            builder.prepare(model, str(rows), recipe)
            store.externalise(model)
            save(model, root / "parts" / f"{rows}.onnx")
    for rows in (1, 7, 40):
        given, made = numbers.normal(size=(rows, 256)).astype(np.float32), []
        for prepack in (OWN, SHARED, SHARED):
            part = root / f"parts/{rows}.onnx"
            engine = OnnxRuntimeExecutor().load(part, root, {**recipe, "prepack": prepack})
            made.append(engine.run({"x": given})["y"])
        assert made[0].tobytes() == made[1].tobytes() == made[2].tobytes()
        np.testing.assert_allclose(made[0], given @ weight["a"], rtol=1e-4, atol=1e-3)
    kept = tmp_path / "engines" / "onnxruntime" / "packed"
    assert len(list(kept.glob("*.engine"))) == 3
    assert len(list(kept.glob("*.weights"))) == 1


@pytest.mark.parametrize("ending", [".weights", ".engine"])
def test_what_was_altered_is_packed_again(parts: Parts, ending: str) -> None:
    expected = parts.made("one")
    (path,) = parts.kept(ending)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + bytes(9))
    assert parts.made("one") == expected
    assert path.read_bytes() == whole


def test_what_anybody_may_write_is_refused(parts: Parts) -> None:
    parts.load("one")
    (path,) = parts.kept(".weights")
    path.chmod(0o666)
    with pytest.raises(BackendError, match=r"anybody may write .*chmod o-w"):
        parts.load("one")


def test_another_processor_packs_for_itself(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.load("one")
    monkeypatch.setattr(prepacked, "_processor", lambda: ["riscv64"])
    parts.load("one")
    assert len(parts.kept(".engine")) == 2


def test_what_was_not_used_for_longest_goes(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.load("one")
    os.utime(parts.kept(".json")[0], (0, 0))
    monkeypatch.setattr(prepacked, "_processor", lambda: ["riscv64"])
    (weight,) = parts.kept(".weights")
    monkeypatch.setenv("VLACUT_PACKED_LIMIT", f"{weight.stat().st_size / 1000:.3f}kB")
    parts.load("two")  # it reads the same weight, so there is room for both
    assert len(parts.kept(".engine")) == 2
    extra = weight.with_name("f" * 64 + ".weights")
    extra.write_bytes(b"of a process that was killed")
    monkeypatch.setattr(prepacked, "_processor", lambda: ["m68k"])
    parts.load("two")
    assert len(parts.kept(".engine")) == 3
    assert parts.kept(".weights") == [weight]


def test_a_session_has_its_own_where_there_is_no_room(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = parts.made("one", OWN)
    monkeypatch.setenv("VLACUT_PACKED_LIMIT", "1kB")
    with caplog.at_level(logging.WARNING, "vlacut.onnxruntime"):
        assert parts.made("one") == expected
    assert "they are more than VLACUT_PACKED_LIMIT" in caplog.text
    assert not parts.kept("")
    monkeypatch.setenv("VLACUT_ENGINES", str(parts.root / "parts" / "one.onnx"))
    assert parts.made("one") == expected
    assert "Not a directory" in caplog.text


def test_a_session_has_its_own_where_what_is_kept_cannot_be_read(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = parts.made("one")

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(prepacked, "find_engine", refused)
    assert parts.made("one") == expected
    assert "packed weights for itself" in caplog.text
    assert "Permission denied" in caplog.text


def test_a_session_has_its_own_where_drawn_numbers_do_not_run(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = parts.made("one", OWN)
    monkeypatch.setattr(packing, "_probe", lambda *_: np.zeros((2, 3), np.float32))
    assert parts.made("one") == expected
    assert "it does not run on drawn numbers" in caplog.text
    assert not parts.kept("")


def test_small_parts_are_not_kept(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("VLACUT_ENGINES", str(parts.engines))
    parts.load("one")
    assert not parts.engines.exists()


def one_outside(name: str) -> bytes:
    """An ONNX file of one weight, which lies outside of it."""
    model = make_model(make_graph([], "main", [], []))
    weight = model.graph.initializer.add()
    weight.name, weight.data_type, weight.data_location = name, 1, 1
    weight.dims.extend([2, 3])
    for key, value in (("location", "old"), ("offset", "1"), ("length", "24")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    return bytes(model.SerializeToString())


def test_an_entry_without_a_key_is_stepped_over() -> None:
    """As in a file that was altered: it is looked into before it is packed again."""
    model = make_model(make_graph([], "main", [], []))
    model.graph.initializer.add().external_data.add().value = "old"
    assert not stored_in(model.SerializeToString())


names = st.text("abc/._", min_size=1, max_size=8)
places = st.integers(0, 2**40)
packed = st.builds(
    Packed, names, st.lists(st.tuples(places, places, st.sampled_from(["0", "1;2"]))).map(tuple)
)


@settings(max_examples=25, deadline=None)
@given(names, names, places, places, st.lists(packed, max_size=3).map(tuple))
def test_places_are_read_as_they_were_written(
    name: str, file: str, offset: int, nbytes: int, forms: tuple[Packed, ...]
) -> None:
    model = one_outside(name)
    wanted = Stored(name, 1, (2, 3), file, offset, nbytes, forms)
    assert stored_in(move(model, lambda _: wanted)) == [wanted]
    (old,) = stored_in(model)
    assert move(move(model, lambda _: wanted), lambda _: old) == move(model, lambda one: one)
    further = {at: at + 64 for at, _ in wanted.places}
    back = {new: old for old, new in further.items()}
    assert wanted.moved("new", further).moved(file, back) == wanted
