"""What codecs do to the action on observations that had no say: bounds, and what `verify` sees."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.commands import Vlacut
from support.cutting import LINK
from support.onnx_text import write
from support.programs import looping_program

from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle
from vlacut.compiler.driver import compile_program
from vlacut.compiler.planning import plan_program
from vlacut.compiler.target import Target
from vlacut.errors import InputError
from vlacut.frontends.load import load_program
from vlacut.frontends.remember import remember
from vlacut.ir.dataflow import cuts_of, trace_dataflow
from vlacut.pricing.coding import Bound
from vlacut.runtime.fresh import LEAST_CHANCE
from vlacut.runtime.verification import verify_bundle
from vlacut.split.gauge import gauging
from vlacut.split.observations import example_observation
from vlacut.tensor.numerics import varied
from vlacut.tensor.split_conformal import chance, least_count, rank_of

WIDTH = 64
SLOW = "10kB/s,1ms"


def target(**asked: object) -> Target:
    """Everything in the cloud over a slow link, the observation coded."""
    chosen = {"pin": ("*=cloud",), "codecs": "all", **asked}
    return Target("jetson-agx-orin", "a100", SLOW, **chosen)  # type: ignore[arg-type]


def gripper(folder: Path, joints: int = 32, seed: int = 0) -> str:
    """Joints that open or close, with nothing in between, by the sign of a sum: what a codec
    changes of the sum is nothing to most observations, and everything to some.
    """
    weights = {"w": weight(joints, seed)}
    body = f"""g (float[1,{WIDTH}] x) => (float[1,{joints}] action)
        {{ s = MatMul(x, w)  action = Sign(s) }}"""
    return str(write(folder / "gripper.onnx", body, weights))


def weight(joints: int, seed: int) -> np.ndarray:
    numbers = np.random.default_rng(seed)
    return numbers.standard_normal((WIDTH, joints)).astype(np.float32)


def drawn(seed: int, count: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(seed)
    return {"x": (scale * numbers.standard_normal((count, 1, WIDTH))).astype(np.float32)}


def recorded(path: Path, arrays: dict[str, np.ndarray]) -> str:
    np.savez(path, **arrays)
    return str(path)


def test_the_rank_is_the_least_that_covers() -> None:
    for count, coverage in itertools.product(range(1, 60), (0.5, 0.8, 0.9, 0.95, 0.975)):
        rank = rank_of(count, coverage)
        assert rank / (count + 1) >= coverage - 1e-12
        assert (rank - 1) / (count + 1) < coverage
    assert [least_count(one) for one in (0.5, 0.9, 0.95, 0.975, 0.99)] == [1, 9, 19, 39, 99]
    for coverage in (0.5, 0.9, 0.95, 0.975, 0.99):
        assert rank_of(least_count(coverage) - 1, coverage) > least_count(coverage) - 1


@pytest.mark.parametrize(("count", "fresh", "rank"), [(4, 3, 4), (4, 3, 2), (5, 2, 3)])
def test_the_chance_is_that_of_all_orders(count: int, fresh: int, rank: int) -> None:
    """Every choice of places for the fresh ones among all errors in order."""
    beyond: list[int] = []
    for places in itertools.combinations(range(count + fresh), fresh):
        others = [one for one in range(count + fresh) if one not in places]
        beyond.append(sum(place > others[rank - 1] for place in places))
    for least in range(fresh + 1):
        share = sum(found >= least for found in beyond) / len(beyond)
        assert chance(least, fresh, count, rank) == pytest.approx(share)


@pytest.fixture(scope="module")
def uncalibrated(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("uncalibrated")
    program, asked = load_program(gripper(folder)), target(codecs="int8", max_action_error=0.05)
    return compile_program(program, asked, folder / "b")[1]


def test_verify_tells_of_an_action_that_moves_further_than_is_allowed(
    uncalibrated: Bundle, vlacut: Vlacut
) -> None:
    """Measured on four observations, codecs keep the limit; on some of sixteen others they do not.

    Before, `verify` said `within`, and nothing else.
    """
    stated = uncalibrated.plan.variants[0].action_error
    assert (stated.observations, stated.bound) == (4, None)
    assert stated.measured is not None
    assert stated.measured <= 0.05
    result = verify_bundle(uncalibrated)[-1]
    assert result.max_abs_error <= result.allowed
    assert result.fresh is not None
    assert result.fresh.beyond
    assert result.fresh.max_error == 2.0  # the gripper does the opposite
    assert result.passed == (result.fresh.chance >= LEAST_CHANCE)
    assert f"{result.fresh.beyond} of 16 fresh observations the action moves" in result.warning
    status, out, err = vlacut("verify", uncalibrated.root)
    assert status == int(not result.passed)
    assert "warning: chosen: on" in err
    assert "on 16 fresh observations: error at most 2;" in out
    status, out, _ = vlacut("inspect", uncalibrated.root)
    assert "Error on 4 observations" in " ".join(out.split())
    assert "bounds no other observation" in " ".join(out.split())


def like_the_example(path: Path, seeds: range) -> str:
    """Observations of the looping program."""
    program = looping_program()
    example = example_observation(program)
    many = [varied(program.inputs, example, seed) for seed in seeds]
    return recorded(path, {name: np.stack([one[name] for one in many]) for name in example})


def test_codecs_that_broke_the_limit_on_those_held_out_are_not_taken(tmp_path: Path) -> None:
    """The first choice is within a limit on the observations that it was chosen on, and its bound
    is not; the second is held to what the first has left of the coverage.
    """
    seen = like_the_example(tmp_path / "seen.npz", range(1, 81))
    loose = target(calibration=seen, coverage=0.9)
    first = plan_program(looping_program(), replace(loose, link="100kB/s,5ms")).plan.variants[0]
    measured = first.action_error.measured
    assert measured is not None
    most = measured * 1.0001
    asked = replace(loose, link="100kB/s,5ms", max_action_error=most)
    _, bundle = compile_program(looping_program(), asked, tmp_path / "b")
    (variant,) = bundle.plan.variants
    bound = variant.action_error.bound
    assert variant.coded
    assert bound is not None
    assert (bound.tries, bound.level, bound.observations) == (2, 0.975, 60)
    assert bound.error <= most
    assert variant.coded != first.coded
    fresh = like_the_example(tmp_path / "fresh.npz", range(1001, 1101))
    result = verify_bundle(bundle, observations=Path(fresh))[-1]
    assert result.passed
    assert result.fresh is not None
    assert (result.fresh.observations, result.fresh.alike) == (100, True)
    assert result.fresh.beyond <= 10


def test_a_calibration_keeps_the_gripper_from_doing_the_opposite(tmp_path: Path) -> None:
    """What four observations do not show, those of a calibration do: no codec is taken."""
    file = recorded(tmp_path / "seen.npz", drawn(0, 120))
    asked = target(codecs="int8", max_action_error=0.05)
    program = load_program(gripper(tmp_path))
    variant = plan_program(program, asked).plan.variants[0]
    assert {one.tensor for one in variant.coded} == {"x", "main/action"}
    asked = replace(asked, calibration=file, coverage=0.9)
    program = load_program(gripper(tmp_path))
    variant = plan_program(program, asked).plan.variants[0]
    assert "x" not in {one.tensor for one in variant.coded}


def test_without_a_limit_the_bound_says_what_codecs_do(tmp_path: Path) -> None:
    file = recorded(tmp_path / "seen.npz", drawn(0, 100))
    asked = target(codecs="int8", calibration=file)
    found = plan_program(load_program(gripper(tmp_path)), asked).plan
    error = found.variants[0].action_error
    assert error.bound == Bound(2.0, 0.95, 75, 0.95)


def test_the_bound_covers_what_it_says(tmp_path: Path) -> None:
    """Calibrated over and over on 30 observations each, fresh ones are within it as often as 0.8
    says: on average over calibrations, which is what split conformal bounds promise.
    """
    program = looping_program()
    specs, example = program.inputs, example_observation(program)
    observations = [varied(specs, example, seed) for seed in range(1, 701)]
    plan_program(program, target())
    dataflow = trace_dataflow(program)
    chosen = cuts_of(dataflow).chosen
    codecs = {one.tensor: one.codec for one in chosen.crossings}
    assert codecs
    with gauging(dataflow, LINK, calibration=observations) as gauge:
        errors = np.array(gauge.held_errors(chosen.sides, codecs))
    blocks = errors[: len(errors) // 60 * 60].reshape(-1, 2, 30)
    bounds = np.sort(blocks[:, 0])[:, rank_of(30, 0.8) - 1]
    covered = (blocks[:, 1] <= bounds[:, np.newaxis]).mean()
    assert 0.8 - 3 * 0.4 / (len(blocks) * 30) ** 0.5 <= covered <= 0.92


def test_observations_unlike_those_that_calibrated_it_fail(tmp_path: Path, vlacut: Vlacut) -> None:
    """Calibrated where every sum is far from zero, then used where one is not."""
    seen = drawn(0, 2000)
    least = np.abs(seen["x"][:, 0] @ weight(32, 0)).min(axis=1)
    far = {"x": seen["x"][least > np.quantile(least, 0.9)]}
    asked = target(codecs="int8", coverage=0.9)
    asked = replace(asked, calibration=recorded(tmp_path / "seen.npz", far))
    _, bundle = compile_program(load_program(gripper(tmp_path)), asked, tmp_path / "b")
    bound = bundle.plan.variants[0].action_error.bound
    assert bound is not None
    assert bound.error == 0
    near = {"x": seen["x"][least < np.quantile(least, 0.02)]}
    fresh = recorded(tmp_path / "fresh.npz", near)
    status, out, err = vlacut("verify", bundle.root, "--observations", fresh)
    assert status == 1
    assert "chance alone does that in" in out
    assert "fresh observations the action moves further" in err
    status, _, err = vlacut("verify", bundle.root, "--fresh", "8")
    assert status == 0  # of variations nothing was promised
    assert "8 fresh observations" not in err or "none like those" in err


def test_what_cannot_calibrate_is_refused(tmp_path: Path) -> None:
    model = gripper(tmp_path)
    few = recorded(tmp_path / "few.npz", drawn(0, 20))
    with pytest.raises(InputError, match=r"20 observations, 15 of them held out, .* takes 19 held"):
        plan_program(load_program(model), target(calibration=few))
    with pytest.raises(InputError, match="takes 39 held out"):
        plan_program(load_program(model), target(calibration=few, max_action_error=0.1))
    with pytest.raises(InputError, match="calibrates what codecs do; add --codecs"):
        plan_program(load_program(model), target(calibration=few, codecs=""))
    other = recorded(tmp_path / "other.npz", {"y": np.zeros((3, 1, WIDTH), np.float32)})
    with pytest.raises(InputError, match="has no input x; it has y"):
        plan_program(load_program(model), target(calibration=other))
    wrong = recorded(tmp_path / "wrong.npz", {"x": np.zeros((3, 2, WIDTH), np.float32)})
    with pytest.raises(InputError, match=r"x: shape is \[2, 64\], must be \[1, 64\]"):
        plan_program(load_program(model), target(calibration=wrong))
    with pytest.raises(InputError, match="there is no such file"):
        plan_program(load_program(model), target(calibration=str(tmp_path / "none")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no observations"):
        plan_program(load_program(model), target(calibration=str(tmp_path / "empty")))
    broken = drawn(0, 100)
    broken["x"][50:] = np.nan
    nan = recorded(tmp_path / "nan.npz", broken)
    with pytest.raises(InputError, match="a NaN or an infinity on observation"):
        plan_program(load_program(model), target(calibration=nan))
    body = """g (float[1,8] x, float[1,8] h) => (float[1,8] y, float[1,8] next)
        { y = Add(x, h)  next = Neg(y) }"""
    program = load_program(str(write(tmp_path / "state.onnx", body)))
    remember(program, {"next": "h"})
    with pytest.raises(InputError, match="a program that remembers"):
        plan_program(program, target(calibration=few))


def test_a_folder_and_recorded_episodes_are_observations(tmp_path: Path) -> None:
    """One observation a file, many a file, and what `run --record` calls them."""
    arrays = drawn(0, 60)["x"]
    folder = tmp_path / "folder"
    folder.mkdir()
    recorded(folder / "a.npz", {"x": arrays[0]})
    recorded(folder / "b.npz", {"x": arrays[1:30]})
    recorded(folder / "c.npz", {"observation/x": arrays[30:]})
    asked = target(calibration=str(folder), coverage=0.9)
    one = plan_program(load_program(gripper(tmp_path)), asked).plan
    asked = replace(asked, calibration=recorded(tmp_path / "all.npz", {"x": arrays}))
    assert plan_program(load_program(gripper(tmp_path)), asked).plan == one


def test_every_variant_of_a_pool_is_bounded(tmp_path: Path) -> None:
    seen = like_the_example(tmp_path / "seen.npz", range(1, 61))
    asked = target(calibration=seen, pool="portfolio:1MB", max_action_error=0.05, coverage=0.8)
    asked = replace(asked, pin=(), link="100kB/s")
    _, bundle = compile_program(looping_program(), asked, tmp_path / "b")
    variants = [one for one in open_bundle(bundle.root).plan.variants if one.coded]
    assert variants
    for variant in variants:
        assert variant.action_error.bound is not None
        assert variant.action_error.bound.error <= 0.05
    assert all(result.passed for result in verify_bundle(bundle, fresh=2))
