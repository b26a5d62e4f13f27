"""A trace of the cache brings the record of its comparison with the module, or is compared anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vlacut.bundle.model_check import ModelCheck
from vlacut.compiler.driver import compile_program
from vlacut.compiler.model_check import kept as kept_checks
from vlacut.compiler.model_check.kept import KEPT_CHECKS
from vlacut.compiler.target import Target
from vlacut.compiler.trace_cache import TraceCache
from vlacut.compiler.tracing import traced_program
from vlacut.errors import ModelDiffers
from vlacut.frontends import load
from vlacut.ir.program import Program

MODEL = "vit-mlp:tiny"
TARGET = Target("jetson-agx-orin", "a100", "10MB/s,20ms")
WHEN = ", when it was traced"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TraceCache:
    """With the model in it, compared with its module."""
    folder = tmp_path_factory.mktemp("kept")
    cache = TraceCache(folder / "traces")
    first = checked(cache, folder / "first")
    assert first.against == "your PyTorch module"
    assert first.observations > 1
    return cache


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are traced."""
    found: list[str] = []
    build = load._zoo

    def counted(model: str) -> Program:
        found.append(model)
        return build(model)

    monkeypatch.setattr(load, "_zoo", counted)
    return found


def checked(cache: TraceCache, out: Path, target: Target = TARGET, **options: float) -> ModelCheck:
    """The model check of a bundle of the model."""
    said: list[str] = []
    program = traced_program(MODEL, None, cache, said.append)
    _, bundle = compile_program(program, target, out, golden=False, **options)  # type: ignore[arg-type]
    return bundle.manifest.model_check


def test_a_bundle_of_a_cached_trace_carries_what_was_compared(
    cache: TraceCache, traced: list[str], tmp_path: Path
) -> None:
    """Before, it said that nothing was compared."""
    again = checked(cache, tmp_path / "b")
    assert traced == []
    assert again.against == f"your PyTorch module{WHEN}"
    assert not again.why_not
    assert again.magnitude > 0
    assert again.observations > 1
    assert again.where


@pytest.mark.slow
def test_a_trace_that_was_only_planned_is_compared_when_it_is_compiled(
    traced: list[str], tmp_path: Path
) -> None:
    cache = TraceCache(tmp_path / "traces")
    traced_program(MODEL, None, cache)
    assert traced == [MODEL]
    first, second = (checked(cache, tmp_path / name) for name in "ab")
    assert traced == [MODEL, MODEL]  # once more, for its module
    assert first.against == "your PyTorch module"
    assert second == replace(first, against=first.against + WHEN)


def test_another_program_than_was_compared_is_compared_anew(
    cache: TraceCache, traced: list[str], tmp_path: Path
) -> None:
    half = checked(cache, tmp_path / "b", replace(TARGET, precision="float16"))
    assert traced == [MODEL]
    assert half.against == "your PyTorch module"
    assert half.tolerance > 1e-3
    kept = checked(cache, tmp_path / "c", replace(TARGET, precision="float16"))
    assert kept == replace(half, against=half.against + WHEN)


def test_a_record_beyond_what_is_asked_for_is_compared_anew(
    cache: TraceCache, traced: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ModelDiffers):
        checked(cache, tmp_path / "b", model_tolerance=0.0)
    assert traced == [MODEL]


@pytest.mark.parametrize("damage", ["{", "[1]", '{"DIGEST": {"against": 1}}', "{}"])
def test_a_damaged_record_is_said_and_compared_anew(
    cache: TraceCache, traced: list[str], damage: str
) -> None:
    program = traced_program(MODEL, None, cache)
    kept = KEPT_CHECKS.find(program)
    assert kept is not None
    said: list[str] = []
    kept = replace(kept, say=said.append)
    check = ModelCheck("a module", "", 1e-7, 1.0, "x", 1e-4, 3)
    kept.keep(program, check)
    assert kept.find(program) == replace(check, against="a module" + WHEN)
    (file,) = kept.folder.glob("checks.json")
    before = file.read_text()
    file.write_text(damage.replace("DIGEST", kept_checks._digest(program)))
    try:
        assert kept.find(program) is None
        assert bool(said) == (damage != "{}")
    finally:
        file.write_text(before)


def test_a_model_on_shapes_alone_is_not_traced_for_nothing(traced: list[str]) -> None:
    found = load._zoo_original(MODEL, False)
    assert found.why_not == "it was traced on shapes alone"
    assert traced == []
