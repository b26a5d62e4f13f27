"""A back end for each side: what the bundle says of it, and both through the real runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.commands import Vlacut
from support.deployments import served
from support.fake_machine import TARGET, fake_machine
from support.programs import looping_program

from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle
from vlacut.compiler.backends import parse_backends
from vlacut.compiler.driver import compile_program
from vlacut.errors import BackendError, InputError
from vlacut.hardware import Side
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.engines import load_engines
from vlacut.runtime.verification import UNCUT, verify_bundle
from vlacut_backends.tensorrt.engine_builder import TensorRTEngineBuilder


def compiled(folder: Path, backend: str) -> Bundle:
    """Two parts on each side, one of them in a loop with a carried state."""
    path = folder / f"{backend.replace(',', '-')}.vlacut"
    return compile_program(looping_program(), TARGET, path, backend=backend)[1]


@pytest.fixture(scope="module", params=["edge=onnxruntime,cloud=tensorrt", "tensorrt-first"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    named = {"tensorrt-first": "cloud=onnxruntime,edge=tensorrt"}
    folder = tmp_path_factory.mktemp("pair")
    return compiled(folder, named.get(request.param, request.param))


def test_each_side_has_a_recipe_and_a_tolerance_of_its_own(bundle: Bundle) -> None:
    manifest, built = bundle.manifest, Side.CLOUD
    if bundle.backend(Side.EDGE) == "tensorrt":
        built = Side.EDGE
    assert bundle.backend(built) == "tensorrt"
    assert bundle.backend(built.other) == "onnxruntime"
    assert (
        manifest.backend == f"edge={bundle.backend(Side.EDGE)},cloud={bundle.backend(Side.CLOUD)}"
    )
    assert "sm" in bundle.recipe(built)
    assert "optimisation" in bundle.recipe(built.other)
    assert bundle.tolerance(built.other) == 0.0
    assert manifest.tolerance == bundle.tolerance(built) > 0.0
    # What runs as it is needs no record to build an engine by; the uncut phases are for it.
    assert manifest.uncut is built.other
    for part in bundle.plan.parts:
        assert (bundle.part_golden_path(part) is not None) == (part.side is built)


def test_both_run_together_and_verify(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = next(side for side in Side if bundle.backend(side) == "tensorrt")
    with fake_machine(monkeypatch, tmp_path / "engines"):
        with pytest.raises(BackendError, match="run vlacut build"):
            load_engines(bundle, built)
        TensorRTEngineBuilder().build(bundle, built, "", lambda *_: None)
        results = verify_bundle(bundle)
        assert all(result.passed for result in results)
        assert [one.why_not for one in results if one.comparison == UNCUT] == [""]
        plan, golden = bundle.plan, bundle.golden("action")["action"]
        there, here = load_engines(bundle, Side.CLOUD), load_engines(bundle, Side.EDGE)
        with (
            served(plan, there, bundle.digest) as server,
            EdgeSession(plan, bundle.digest, here, server.address) as session,
        ):
            for _ in range(3):
                action = session.step(bundle.golden("observation"))["action"]
                np.testing.assert_allclose(action, golden, rtol=1e-5, atol=1e-6)
            mine = {part.name for part in bundle.parts(Side.EDGE)}
            assert set(session.last.device_s) == (mine if built is Side.EDGE else set())


def test_one_name_is_for_both(tmp_path: Path) -> None:
    bundle = compiled(tmp_path, "onnxruntime")
    assert bundle.manifest.backend == "onnxruntime"
    assert bundle.manifest.backends == {"edge": "onnxruntime", "cloud": "onnxruntime"}
    assert bundle.manifest.tolerance == 0.0
    assert open_bundle(bundle.root).manifest.uncut is Side.EDGE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edge=onnxruntime", "write a name for both sides, or edge=NAME,cloud=NAME"),
        ("edge=onnxruntime,edge=onnx", "write a name for both sides"),
        ("edge=onnxruntime,cloud=", "write a name for both sides"),
        ("edge=onnxruntime,robot=onnx", "write a name for both sides"),
        ("edge=onnxruntime,cloud=tensort", "no builder 'tensort'; did you mean tensorrt"),
    ],
)
def test_what_names_no_pair_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_backends(text)


def test_a_side_that_needs_no_building_says_so(vlacut: Vlacut, tmp_path: Path) -> None:
    bundle = compiled(tmp_path, "edge=onnxruntime,cloud=tensorrt")
    status, _, said = vlacut("build", bundle.root, "--side", "edge")
    assert status == 2
    assert "back end onnxruntime runs parts as they are" in said
    assert "edge=onnxruntime,cloud=tensorrt" in vlacut("inspect", bundle.root)[1]
