"""Emulated devices: bundles without weights, engines that take their time, and the twin."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from support.commands import Vlacut
from support.programs import TARGET, looping_program

from vlacut.bundle.reading import open_bundle, read_bundle
from vlacut.compiler.driver import compile_program
from vlacut.emulation import shape_of
from vlacut.emulation.twin import run_twin
from vlacut.errors import BackendError, BundleError, InputError, PeerLost
from vlacut.hardware import Link, Side
from vlacut.hardware.trace import Trace
from vlacut.ir.program import Program
from vlacut.runtime.engines import load_engines
from vlacut.runtime.local import run_both
from vlacut.runtime.verification import verify_bundle
from vlacut.simulation import StepWalk, network_of
from vlacut_backends.emulated.execute import EmulatedEngine, EmulatedExecutor

SLOW = Link(5e3, 1e4, 0.02)  # so that a step of the smallest program takes what can be measured


def without_weights() -> Program:
    program = looping_program()
    for phase in program.phases:
        for value in phase.model.graph.initializers.values():
            value.const_value = None
    return program


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("emulated") / "looping.vlacut"
    compile_program(without_weights(), TARGET, path, backend="emulated")
    return path


def test_a_bundle_holds_no_weights_and_no_golden_step(emulated: Path, split_bundle: Path) -> None:
    bundle = open_bundle(emulated)
    assert not any(name.startswith(("weights/", "golden/")) for name in bundle.manifest.files)
    assert bundle.plan == read_bundle(split_bundle).plan
    with pytest.raises(BundleError, match="no golden"):
        verify_bundle(bundle)


def test_compiling_twice_gives_the_same_bytes(emulated: Path, tmp_path: Path) -> None:
    _, again = compile_program(without_weights(), TARGET, tmp_path / "b", backend="emulated")
    assert again.digest == read_bundle(emulated).digest


@pytest.mark.parametrize("kind", ["emulated", "split_bundle"])
def test_engines_take_their_time_and_make_what_the_plan_says(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """Those of any bundle: the times are the plan's."""
    bundle = read_bundle(request.getfixturevalue(kind))
    engines = load_engines(bundle, Side.EDGE, True) | load_engines(bundle, Side.CLOUD, True)
    plan = bundle.plan
    observation = {one.name: np.zeros(one.numpy_shape, one.numpy_dtype) for one in plan.inputs}
    action = run_both(plan, engines, 0, observation)
    for name, key in plan.outputs.items():
        assert action[name].shape == plan.spec[key].numpy_shape
        assert action[name].dtype == plan.spec[key].numpy_dtype


@pytest.mark.parametrize("seconds", [0.0, 1e-4, 0.03])
def test_an_engine_ends_when_it_should(emulated: Path, seconds: float) -> None:
    from dataclasses import replace

    plan = read_bundle(emulated).plan
    engine = EmulatedEngine(plan, replace(plan.parts[0], seconds=seconds))
    took = []
    for _ in range(20):
        start = time.perf_counter()
        engine.run({})
        took.append(time.perf_counter() - start)
    assert sum(took) >= 20 * seconds
    assert min(took) >= seconds - 1e-3  # it makes up for the run before, which was late
    assert min(took) < seconds + 2e-3


def test_what_is_no_part_is_refused(emulated: Path) -> None:
    executor = EmulatedExecutor()
    for path in (emulated / "whole" / "step.onnx", emulated / "parts" / "other.onnx"):
        with pytest.raises(BackendError, match="nothing else"):
            executor.load(path, emulated, {})


def test_the_twin_s_steps_take_what_they_take_on_paper(emulated: Path) -> None:
    trace = Trace((5e3, 0.0, 2e4, 5e3), (0.4, 0.3, 0.5, 60.0))
    plan = read_bundle(emulated).plan
    walk, network = StepWalk(plan, 0), network_of(SLOW, trace)
    done = run_twin(emulated, shape_of(SLOW, trace), steps=6)
    assert len(done) == 6
    late = []
    for step in done:
        due = walk.end(step.start_s, network) - step.start_s
        late.append(step.report.latency_s - due)
        assert step.report.variant == plan.variants[0].name
    assert min(late) > -2e-3  # a busy machine makes steps late, never early
    assert min(late) < 0.3
    starts = [step.start_s for step in done]
    assert starts == sorted(starts)


def test_a_twin_with_a_period_starts_at_its_ticks(emulated: Path) -> None:
    done = run_twin(emulated, shape_of(Link(1e8, 1e8)), steps=4, period=0.25)
    since = np.array([step.start_s for step in done]) - done[0].start_s
    off = since - np.round(since / 0.25) * 0.25
    assert np.median(np.abs(off[1:])) < 0.1  # a busy machine starts one or another late
    assert (np.diff(since) > 0.1).all()


def test_a_twin_needs_an_end_and_a_bundle(emulated: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="steps or seconds"):
        run_twin(emulated, shape_of(SLOW))
    with pytest.raises(PeerLost, match="is no bundle"):
        run_twin(tmp_path, shape_of(SLOW), steps=1)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder of two recordings of half a minute."""
    for name, seed in (("one", 1), ("two", 2)):
        rates = 10 ** np.random.default_rng(seed).uniform(-1, 1, 60)
        lines = [f"{index / 2},{rate:.4f}" for index, rate in enumerate(rates)]
        text = "\n".join(["time_s,mbit_per_s", *lines, ""])
        (tmp_path / f"{name}.csv").write_text(text)
    return tmp_path


def test_simulate_shows_a_row_for_every_policy(
    vlacut: Vlacut, emulated: Path, recorded: Path
) -> None:
    words = ("simulate", emulated, "--trace", recorded, "--deadline", "50ms", "--period", "1s")
    status, out, err = vlacut(*words, "--json")
    assert status == 0, err
    said = json.loads(out)
    assert said["bundle"] == str(emulated)
    assert len(said["traces"]) == 2
    assert said["hours"] == pytest.approx(60 / 3600)
    assert said["rows"][0]["selector"] == "clairvoyant"
    assert {"argmin", "quantile", "thresholds", "random", "chosen"} <= {
        row["selector"] for row in said["rows"]
    }
    for row in said["rows"]:
        assert row["mean_ms"] <= row["p99_ms"]
        assert row["regret"] == pytest.approx(0)  # one variant: there is nothing to choose
        assert row["steps"] == 60
    status, out, err = vlacut(*words, "--selector", "argmin", "--predictor", "all")
    assert status == 0, err
    assert out.count("argmin") == 5
    assert "2 traces, 0.0167 hours, by 6 selectors" in out


def test_simulate_draws_one_trace(vlacut: Vlacut, emulated: Path, recorded: Path) -> None:
    plot = recorded / "plot.svg"
    words = ("simulate", emulated, "--trace", recorded / "one.csv", "--selector", "argmin")
    status, out, err = vlacut(*words, "--plot", plot, "--knows", "frames", "--period", "1s")
    assert status == 0, err
    assert plot.read_text().startswith("<?xml")
    lines = out.rstrip().splitlines()
    assert "argmin ewma: a chosen" in out
    assert set(lines[-1].strip()) == {"a"}  # the variant that ran, under the trace
    frame = next(line for line in lines if "┌" in line)
    assert len(lines[-1].strip()) == frame.index("┐") - frame.index("┌") - 1


def test_simulate_says_what_is_wrong(vlacut: Vlacut, emulated: Path, recorded: Path) -> None:
    words = ("simulate", emulated, "--trace")
    assert "no bandwidth trace at" in vlacut(*words, recorded / "none.csv")[2]
    assert "no selector or variant 'best'" in vlacut(*words, recorded, "--policy", "best")[2]
    assert "no predictor 'oracle'" in vlacut(*words, recorded, "--predictor", "oracle")[2]
    assert "is no time" in vlacut(*words, recorded, "--period", "0s")[2]


def test_twin_reports_steps_beside_the_simulation(
    vlacut: Vlacut, emulated: Path, recorded: Path
) -> None:
    words = ("twin", emulated, "--trace", recorded / "one.csv", "--steps", "3", "--json")
    status, out, err = vlacut(*words, "--selector", "argmin")
    assert status == 0, err
    said = json.loads(out)
    assert [step["step"] for step in said["steps"]] == [0, 1, 2]
    assert said["simulated"]["steps"] == 3
    assert said["mean_ms"] >= 0.9 * said["simulated"]["mean_ms"]


def test_twin_wants_an_end(vlacut: Vlacut, emulated: Path) -> None:
    assert "say for how many --steps" in vlacut("twin", emulated)[2]
    assert "write START,LENGTH" in vlacut("twin", emulated, "--outage", "now")[2]
