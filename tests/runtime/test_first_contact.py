"""The first minutes with a bundle: what objects say, the first step, and what is refused."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from support.deployments import (
    DIGEST,
    Held,
    crossing_deployment,
    deployment_with_alone,
    served,
)
from support.onnx_text import write
from support.programs import TARGET, looping_program, observation

import vlacut
from vlacut.backend import Engine
from vlacut.bundle.reading import open_bundle
from vlacut.errors import DeadlineMissed, ObservationError
from vlacut.frontends.load import load_program
from vlacut.ir.program import Program
from vlacut.runtime.edge.observed import check_observation
from vlacut.runtime.edge.report import Source
from vlacut.runtime.edge.session import EdgeSession
from vlacut.tensor import TensorSpec
from vlacut_backends.onnxruntime.execute import OnnxRuntimeEngine

CROSSING = {"edge": TARGET.edge, "cloud": TARGET.cloud, "link": "100MB/s,1ms"}
ON_EDGE = {"edge": TARGET.edge, "cloud": TARGET.cloud, "link": "1kB/s,1s"}


class Slow:
    """An engine that takes its time, and counts its runs."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine, self.seconds, self.runs = engine, seconds, 0

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.runs += 1
        time.sleep(self.seconds)
        return self._engine.run(inputs)


def test_objects_are_short_and_say_more_when_asked(split_bundle: Path) -> None:
    program = looping_program()
    bundle = open_bundle(split_bundle)
    server = vlacut.serve(split_bundle)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with vlacut.connect(split_bundle, "{}:{}".format(*server.address)) as policy:
            assert "no step was run yet" in policy.summary()
            policy.step(bundle.golden("observation"))
            for item in (bundle, bundle.plan, program, program.phases[0], policy, policy.last):
                assert len(repr(item)) < 250
                assert "\n" not in repr(item)
                assert " at 0x" not in repr(item)
            assert repr(policy).startswith("<Policy looping: 1 variant, cloud 127.0.0.1:")
            assert "1 steps" in repr(policy)
            assert policy.last.summary().startswith("step 0 by chosen in ")
            assert policy.last.summary() in policy.summary()
    finally:
        server.shutdown()
        thread.join(10)
    said = bundle.summary()
    for part in bundle.plan.parts:
        assert f"{part.name}: {part.side}, " in said
    assert str(bundle.manifest.model_check) in said
    assert bundle.plan.summary() in said
    assert all(f"  {phase.name}" in program.summary() for phase in program.phases)


def test_every_engine_has_run_before_the_first_step(
    split_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: Counter[str] = Counter()
    run = OnnxRuntimeEngine.run

    def counted(engine: OnnxRuntimeEngine, inputs: Mapping[str, np.ndarray]) -> object:
        ran[engine._name] += 1
        return run(engine, inputs)

    monkeypatch.setattr(OnnxRuntimeEngine, "run", counted)
    parts = open_bundle(split_bundle).plan.parts
    server = vlacut.serve(split_bundle)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    assert set(ran) == {part.name for part in parts if part.side.value == "cloud"}
    try:
        with vlacut.connect(split_bundle, "{}:{}".format(*server.address)):
            assert set(ran) == {part.name for part in parts}
    finally:
        server.shutdown()
        thread.join(10)


def test_what_runs_on_reset_has_run_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every engine of both sides runs once before; the first step then runs what its phases say."""
    ran: Counter[str] = Counter()
    run = OnnxRuntimeEngine.run

    def counted(engine: OnnxRuntimeEngine, inputs: Mapping[str, np.ndarray]) -> object:
        ran[engine._name] += 1
        return run(engine, inputs)

    both = ["begin.*=cloud", "go.*=edge", "end.*=cloud"]
    bundle = vlacut.compile(
        beginning_program(tmp_path / "p"), out=tmp_path / "b", pin=both, **CROSSING
    )
    parts = {part.phase: part.name for part in bundle.plan.parts}
    monkeypatch.setattr(OnnxRuntimeEngine, "run", counted)
    server = vlacut.serve(bundle.root)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with vlacut.connect(bundle.root, "{}:{}".format(*server.address)) as policy:
            assert ran == Counter({name: 1 for name in parts.values()})
            policy.step(bundle.golden("observation"))
            policy.step(bundle.golden("observation"))
    finally:
        server.shutdown()
        thread.join(10)
    assert ran == Counter({parts["begin"]: 2, parts["go"]: 3, parts["end"]: 3})


def beginning_program(folder: Path) -> Program:
    """A policy that reads its instruction on reset."""
    folder.mkdir()
    size = "float[1,8]"
    bodies = {
        "begin": f"({size} words) => ({size} goal) {{ goal = Tanh(words) }}",
        "go": f"({size} x, {size} goal) => ({size} y) {{ y = Add(x, goal) }}",
        "end": f"({size} y) => ({size} action) {{ action = Sin(y) }}",
    }
    text = 'outputs = ["action"]\n'
    for name, body in bodies.items():
        write(folder / f"{name}.onnx", f"{name} {body}")
        when = 'when = "reset"\n' if name == "begin" else ""
        text += f'[[phase]]\nname = "{name}"\nfile = "{name}.onnx"\n{when}'
    (folder / "program.toml").write_text(text)
    return load_program(str(folder))


def test_one_side_is_said_by_compile_and_by_serve(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "vlacut"):
        bundle = vlacut.compile(looping_program(), out=tmp_path / "b", **ON_EDGE)
    assert bundle.plan.one_side.value == "edge"
    assert "everything runs on the edge" in caplog.text
    assert "everything runs on the edge" in bundle.summary()
    caplog.clear()
    with caplog.at_level(logging.WARNING, "vlacut.server"):
        vlacut.serve(tmp_path / "b").close()
    assert "no robot will ask this server for anything" in caplog.text
    with vlacut.connect(tmp_path / "b") as policy:
        policy.step(bundle.golden("observation"))
        assert "no cloud" in repr(policy)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_a_nan_is_refused_unless_it_is_allowed(dtype: str) -> None:
    specs = {"state": TensorSpec("state", dtype, (3,)), "ids": TensorSpec("ids", "int64", (1,))}
    array = np.array([1, np.inf, -np.inf])
    if dtype == "bfloat16":
        carried = (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        bad = np.array([0, 0x7FC1, 0], np.uint16)
    else:
        carried, bad = array.astype(dtype), np.array([0, np.nan, 0], dtype)
    ids = np.zeros(1, np.int64)
    check_observation(specs, {"state": carried, "ids": ids})  # masks hold infinities
    with pytest.raises(ObservationError, match=r"state: holds a NaN.*--allow-nan"):
        check_observation(specs, {"state": bad, "ids": ids})
    check_observation(specs, {"state": bad, "ids": ids}, allow_nan=True)


def test_a_session_goes_on_after_a_nan(split_bundle: Path, tmp_path: Path) -> None:
    bundle = vlacut.compile(looping_program(), out=tmp_path / "b", **ON_EDGE)
    golden = bundle.golden("observation")
    bad = {name: np.full_like(array, np.nan) for name, array in golden.items()}
    with vlacut.connect(tmp_path / "b") as policy:
        with pytest.raises(ObservationError, match="NaN"):
            policy.step(bad)
        policy.step(golden)
    with vlacut.connect(tmp_path / "b", allow_nan=True) as policy:
        assert all(np.isnan(array).any() for array in policy.step(bad).values())


@pytest.mark.parametrize("hedge", [False, True])
def test_a_first_step_that_is_late_returns_what_the_edge_makes_alone(hedge: bool) -> None:
    """There is no action before it to repeat: late is better than none."""
    program, plan, engines = deployment_with_alone()
    held = {name: Held(engine) for name, engine in engines.items()}
    alone = {name for name in engines if name.startswith("alone.")}
    slow = {name: Slow(each, 0.1) if name in alone else each for name, each in engines.items()}
    with (
        served(plan, held) as server,
        EdgeSession(plan, DIGEST, slow, server.address, deadline=0.02, hedge=hedge) as policy,
    ):
        policy.step(observation(program))
        assert policy.last.source is Source.ALONE
        overrun = policy.last.overrun
        assert overrun is not None
        assert overrun.engine in alone
        assert 0 < overrun.engine_s <= overrun.seconds + 1e-3
        assert f"engine {overrun.engine} ran" in policy.last.summary()
        for engine in held.values():
            engine.go.set()


def test_a_first_hedged_step_waits_for_an_edge_that_is_slower_than_in_rehearsal() -> None:
    """On a busy machine threads start late, and a rehearsal of 1 ms promises nothing."""
    program, plan, engines = deployment_with_alone()
    held = {name: Held(engine) for name, engine in engines.items()}
    last = [name for name in engines if name.startswith("alone.")][-1]
    slow = Slow(engines[last], 0.0)
    mine = {**engines, last: slow}
    with (
        served(plan, held) as server,
        EdgeSession(plan, DIGEST, mine, server.address, deadline=0.8, hedge=True) as policy,
    ):
        slow.seconds = 0.6 / slow.runs
        policy.step(observation(program))
        assert policy.last.source is Source.ALONE
        for engine in held.values():
            engine.go.set()


def test_how_a_missed_deadline_is_caught() -> None:
    """As the README says: the session goes on, and the next step may come in time."""
    program, plan, engines = crossing_deployment()
    name = plan.cloud_parts[0][-1].name
    held = Held(engines[name])
    with (
        served(plan, {**engines, name: held}) as server,
        EdgeSession(plan, DIGEST, engines, server.address, deadline=0.1) as policy,
    ):
        with pytest.raises(DeadlineMissed, match="no action for step 0"):
            policy.step(observation(program))
        held.go.set()
        for _ in range(50):
            try:
                policy.step(observation(program))
            except DeadlineMissed:
                continue
            break
        assert policy.last.source is Source.CHOSEN


def test_an_overrun_without_an_engine_is_the_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address, deadline=0.5) as policy,
    ):
        policy.step(observation(program))
        assert policy.last.overrun is None
        made = policy._make

        def late(*args: object) -> object:
            found = made(*args)  # type: ignore[arg-type]
            time.sleep(0.6)  # as where a thread is not scheduled
            return found

        monkeypatch.setattr(policy, "_make", late)
        policy.step(observation(program))
        overrun = policy.last.overrun
        assert overrun is not None
        assert not overrun.engine
        assert "the runtime, no engine of the edge ran then" in str(overrun)
