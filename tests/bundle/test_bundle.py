"""The build artifact: the same bytes each time, and every altered byte named."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.forging import forge, forge_file
from support.programs import TARGET, looping_program

from vlacut.bundle.reading import open_bundle, read_bundle
from vlacut.compiler.driver import compile_program
from vlacut.compiler.target import Target
from vlacut.compiler.target_pipeline import pipeline_for
from vlacut.errors import BundleError, InfeasibleError, ModelError
from vlacut.hardware import Side
from vlacut.runtime.verification import verify_bundle
from vlacut.tensor.npz import npz_bytes


def contents(bundle: Path) -> dict[str, bytes]:
    return {
        path.relative_to(bundle).as_posix(): path.read_bytes()
        for path in sorted(bundle.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def copy(split_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(split_bundle, tmp_path / "copy"))


def test_compiling_twice_gives_the_same_bytes(split_bundle: Path, tmp_path: Path) -> None:
    compile_program(looping_program(), TARGET, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(split_bundle)


def test_every_cut_computes_what_the_whole_does(split_bundle: Path) -> None:
    results = {result.comparison: result for result in verify_bundle(open_bundle(split_bundle))}
    assert list(results) == ["module", "uncut program", "cut"]
    assert results["cut"].max_abs_error == results["cut"].allowed == 0


def test_any_altered_byte_is_named(split_bundle: Path, copy: Path) -> None:
    numbers = random.Random(0)
    for name, data in contents(split_bundle).items():
        altered = bytearray(data)
        altered[numbers.randrange(len(data))] ^= 1 << numbers.randrange(8)
        (copy / name).write_bytes(altered)
        with pytest.raises(BundleError, match=Path(name).name.replace(".", r"\.")):
            open_bundle(copy)
        (copy / name).write_bytes(data)
    open_bundle(copy)


def test_a_missing_or_truncated_file_is_named(copy: Path) -> None:
    weight = next((copy / "weights").iterdir())
    weight.write_bytes(weight.read_bytes()[:-1])
    with pytest.raises(BundleError, match=f"weights/{weight.name} is altered"):
        open_bundle(copy)
    weight.unlink()
    with pytest.raises(BundleError, match=f"weights/{weight.name} is missing"):
        open_bundle(copy)


@pytest.mark.parametrize("evil", ["../../elsewhere", "/etc/passwd", "a\\..\\b", "a\0b"])
@pytest.mark.parametrize("whose", ["phase", "part", "file"])
def test_no_name_leads_out_of_a_bundle(copy: Path, whose: str, evil: str) -> None:
    def escape(manifest: dict[str, Any]) -> None:
        if whose == "phase":
            manifest["whole"][0]["name"] = evil
        elif whose == "file":
            manifest["files"][evil] = next(iter(manifest["files"].values()))
        else:  # everywhere, for a plan is checked in itself
            name, plan = manifest["plan"]["parts"][0]["name"], json.dumps(manifest["plan"])
            manifest["plan"] = json.loads(plan.replace(json.dumps(name), json.dumps(evil)))

    forge(copy, escape)
    with pytest.raises(BundleError, match="leads out of the bundle"):
        open_bundle(copy)


@pytest.mark.parametrize("evil", ["\x1b[2J", "a\rb", "\x9b31m", "\x7f"])
def test_no_text_of_a_bundle_moves_a_terminal_s_cursor(copy: Path, evil: str) -> None:
    def named(manifest: dict[str, Any]) -> None:
        manifest["plan"]["program"] = evil

    forge(copy, named)
    with pytest.raises(BundleError, match="would move a terminal's cursor"):
        open_bundle(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole, _: whole.pop(), "is in no file of the bundle"),
        (lambda whole, _: whole.pop(0), "cannot run"),
        (lambda whole, _: whole[0].update(trips=0), "cannot run"),
        (lambda whole, _: whole[0].update(trips=10**12), "cannot run"),
        (lambda whole, _: whole[0].update(name="a\0b"), "leads out of the bundle"),
        (lambda whole, _: whole[0].update(name="other"), "other.onnx is in no file"),
        (lambda _, manifest: manifest.update(tolerance=float("nan")), "must be finite"),
        (lambda _, manifest: manifest.update(tolerance=-1.0), "must be finite"),
    ],
)
def test_a_manifest_that_does_not_add_up_is_refused(
    copy: Path, change: Callable[[Any, Any], object], message: str
) -> None:
    def forged(manifest: dict[str, object]) -> None:
        change(manifest["whole"], manifest)

    forge(copy, forged)
    with pytest.raises(BundleError, match=message):
        open_bundle(copy)


def test_a_loop_of_too_many_trips_is_refused(copy: Path) -> None:
    """The runtime lays every trip out, so the number would size an allocation."""

    def lengthen(manifest: dict[str, Any]) -> None:
        (loop,) = (
            step for step in manifest["plan"]["variants"][0]["schedule"] if step["kind"] == "Loop"
        )
        loop["trips"] = 10**12

    forge(copy, lengthen)
    with pytest.raises(BundleError, match="a loop of 1000000000000 trips"):
        open_bundle(copy)


def test_a_golden_file_that_is_none_is_named(copy: Path) -> None:
    for data in (b"", b"PK\x05\x06", b"\x80\x04garbage", npz_bytes({"a": np.zeros(3)})[:-40]):
        forge_file(copy, "golden/action.npz", data)
        with pytest.raises(BundleError, match=r"action\.npz: cannot be read"):
            read_bundle(copy).golden("action")


def test_a_golden_step_that_does_not_fit_the_plan_is_named(copy: Path) -> None:
    right = open_bundle(copy).golden("action")["action"]
    for arrays, message in (
        ({}, r"holds \[\], must be \['action'\]"),
        ({"action": right[..., :1]}, "action: shape is"),
        ({"action": right.astype("U3")}, "action: dtype is"),
    ):
        forge_file(copy, "golden/action.npz", npz_bytes(arrays))
        with pytest.raises(BundleError, match=message):
            read_bundle(copy).golden("action")


def test_another_format_is_refused(copy: Path) -> None:
    forge(copy, lambda manifest: manifest.update(format=99))
    with pytest.raises(BundleError, match="not of bundle format 14"):
        open_bundle(copy)


def test_what_is_no_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no bundle .* vlacut compile"):
        open_bundle(tmp_path)


def test_equal_weights_are_stored_once(tmp_path: Path) -> None:
    """The uncut phases and the parts read the same files."""
    program = looping_program()
    _, bundle = compile_program(program, TARGET, tmp_path / "out")
    stored = sum(path.stat().st_size for path in (tmp_path / "out" / "weights").iterdir())
    assert stored == 3 * 64 * 64 * 4
    price = bundle.plan.variants[0].price
    assert price.edge_weight_bytes + price.cloud_weight_bytes >= stored


def test_the_budget_is_kept_or_refused_by_name(tmp_path: Path) -> None:
    _, bundle = compile_program(looping_program(), TARGET, tmp_path / "out")
    held = {name for part in bundle.parts(Side.CLOUD) for name in part.weights}
    assert len(held) <= 1
    assert bundle.plan.variants[0].price.cloud_weight_bytes <= 17_000
    pipeline = pipeline_for(TARGET).replace("cloud-budget", "strategy=all-cloud cloud-budget")
    with pytest.raises(InfeasibleError, match=r"32152 bytes over the limit"):
        compile_program(looping_program(), TARGET, tmp_path / "out", pipeline=pipeline)


def test_weights_without_content_cannot_be_shipped(tmp_path: Path) -> None:
    program = looping_program()
    for value in program.phases[0].model.graph.initializers.values():
        value.const_value = None
    with pytest.raises(ModelError, match=r"weight encoder\.\w+ has no content.*vlacut plan"):
        compile_program(program, TARGET, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_golden_step_is_recorded(split_bundle: Path) -> None:
    bundle = open_bundle(split_bundle)
    observation, action = bundle.golden("observation"), bundle.golden("action")
    assert set(observation) == {"image", "state"}
    assert np.isfinite(action["action"]).all()


def test_all_edge_needs_no_cloud(tmp_path: Path) -> None:
    slow = Target("jetson-agx-orin", "a100", "1kB/s,1s")
    _, bundle = compile_program(looping_program(), slow, tmp_path / "out")
    assert {part.side for part in bundle.plan.parts} == {Side.EDGE}
    price = bundle.plan.variants[0].price
    assert (price.bytes_up, price.bytes_down, price.hops) == (0, 0, 0)


def test_weights_that_nobody_can_hold_are_refused_by_how_much(tmp_path: Path) -> None:
    profile = Path(str(files("vlacut") / "hardware/profiles/jetson-agx-orin.toml")).read_text()
    small = tmp_path / "small.toml"
    for figure, nbytes in (("memory_bytes", 32000), ("reserve_bytes", 2000)):
        profile = re.sub(rf"(?m)^{figure} = \S+", f"{figure} = {nbytes}", profile, count=1)
    small.write_text(profile)
    target = Target(str(small), "a100", "10MB/s", "10kB")
    with pytest.raises(InfeasibleError, match=r"weights on the edge: at least \d+ bytes with"):
        compile_program(looping_program(), target, tmp_path / "out")
