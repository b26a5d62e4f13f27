"""The executor of TensorRT's engines, on a fake GPU whose streams do nothing until waited for."""

from __future__ import annotations

import gc
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.deployments import served
from support.fake_machine import fake_machine, looping_bundle

import vlacut
from vlacut.bundle.engine_records import GOLDEN
from vlacut.bundle.opened import Bundle
from vlacut.errors import BackendError, VlacutError
from vlacut.hardware import Side
from vlacut.measurement.profiling import profile_bundle
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.engines import OpenedEngines, host_arrays, load_engines
from vlacut.runtime.local import run_both
from vlacut.runtime.verification import verify_bundle
from vlacut_backends.cuda.driver import driver
from vlacut_backends.cuda.lane import Lane
from vlacut_backends.tensorrt.engine_builder import TensorRTEngineBuilder
from vlacut_backends.tensorrt.execute import OpenTensorRTEngine
from vlacut_backends.tensorrt.golden import Golden, compare

if TYPE_CHECKING:
    from fakes.fake_cuda import FakeDriver

STEPS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tensorrt")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    """With the engines of both sides, as `gpu` has them."""
    made = looping_bundle(folder)
    with pytest.MonkeyPatch.context() as patch, fake_machine(patch, folder / "engines"):
        for side in Side:
            TensorRTEngineBuilder().build(made, side, "", lambda *_: None)
    return made


@pytest.fixture
def gpu(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle, folder: Path, request: pytest.FixtureRequest
) -> Iterator[FakeDriver]:
    figures = getattr(request, "param", {})
    with fake_machine(monkeypatch, folder / "engines", **figures) as found:
        yield found


def observations(bundle: Bundle, count: int = STEPS) -> list[dict[str, np.ndarray]]:
    numbers = np.random.default_rng(3)
    return [
        {
            spec.name: numbers.standard_normal(spec.shape).astype(np.float32)
            for spec in bundle.plan.inputs
        }
        for _ in range(count)
    ]


def expected(bundle: Bundle, observation: dict[str, np.ndarray]) -> np.ndarray:
    """By numpy, from the weights in the bundle's parts."""
    import onnx
    from onnx import numpy_helper

    weights = {}
    for name in ("encode", "decode"):
        model = onnx.load(bundle.root / "whole" / f"{name}.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(bundle.root))
            weights[tensor.name] = numpy_helper.to_array(tensor)
    active = np.tanh(observation["image"] @ weights["encoder.stem"])
    features, state = active @ weights["encoder.mixer"], observation["state"]
    for _ in range(3):
        state = np.tanh((features + state) @ weights["head.refine"])
    return state


def count(gpu: FakeDriver, name: str) -> int:
    return gpu.calls.count(name)


def test_steps_over_the_wire_are_right_and_become_graphs(bundle: Bundle, gpu: FakeDriver) -> None:
    plan = bundle.plan
    engines = load_engines(bundle, Side.CLOUD)
    with served(plan, engines, bundle.digest) as server:
        edge = load_engines(bundle, Side.EDGE)
        with EdgeSession(plan, bundle.digest, edge, server.address) as session:
            for observation in observations(bundle):
                action = session.step(observation)
                wanted = expected(bundle, observation)
                np.testing.assert_allclose(action["action"], wanted, rtol=1e-5, atol=1e-6)
                assert set(session.last.device_s) == {p.name for p in bundle.parts(Side.EDGE)}
                assert all(0 < s < session.last.latency_s for s in session.last.device_s.values())
            launched, captured = count(gpu, "cuGraphLaunch"), len(gpu.launched)
            allocated = count(gpu, "cuMemAlloc_v2"), count(gpu, "cuMemHostAlloc")
            session.step(observations(bundle)[0])
            # 3 parts once and one 3 times a step, all of them as graphs by now, and nothing new.
            assert count(gpu, "cuGraphLaunch") - launched == 6
            assert len(gpu.launched) == captured
            assert allocated == (count(gpu, "cuMemAlloc_v2"), count(gpu, "cuMemHostAlloc"))


def test_a_loops_state_never_leaves_the_device(bundle: Bundle, gpu: FakeDriver) -> None:
    """Of three trips, one action is copied to the host; what all trips read is copied up once."""
    engines = load_engines(bundle, Side.EDGE) | load_engines(bundle, Side.CLOUD)
    before = count(gpu, "cuMemcpyDtoHAsync_v2"), count(gpu, "cuMemcpyHtoDAsync_v2")
    run_both(bundle.plan, engines, 0, observations(bundle)[0])
    after = count(gpu, "cuMemcpyDtoHAsync_v2"), count(gpu, "cuMemcpyHtoDAsync_v2")
    crossing = ["encode/embed", "encode/active", "encode/features", "decode/action"]
    assert after[0] - before[0] == len(crossing)
    # Up: image on the edge, state in the cloud, and each of the crossing ones but the action.
    assert after[1] - before[1] == 2 + len(crossing) - 1


def test_the_wire_reads_and_writes_pinned_memory(
    bundle: Bundle, gpu: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent lies where the device wrote it, and what is received where it copies from."""
    from vlacut.runtime.wire.connection import Connection

    sent: list[int] = []
    post = Connection.post

    def spy(self: Connection, envelope: Any, step: int, arrays: Any, *more: Any) -> None:
        sent.extend(array.ctypes.data for array in arrays if array.dtype == np.float32)
        post(self, envelope, step, arrays, *more)

    copied: list[int] = []
    upload = Lane.upload

    def note(self: Lane, key: str, array: np.ndarray) -> Any:
        if key.startswith("encode/") or key == "decode/features":
            copied.append(array.ctypes.data)
        return upload(self, key, array)

    monkeypatch.setattr(Connection, "post", spy)
    monkeypatch.setattr(Lane, "upload", note)
    pinned: list[int] = []
    allocate = type(driver()).allocate_host

    def remember(self: Any, nbytes: int) -> int:
        pinned.append(allocate(self, nbytes))
        return pinned[-1]

    monkeypatch.setattr(type(driver()), "allocate_host", remember)
    engines = load_engines(bundle, Side.EDGE) | load_engines(bundle, Side.CLOUD)
    run_both(bundle.plan, engines, 0, observations(bundle)[0])
    made_here = [address for address in sent if address in pinned]
    assert len(made_here) == len(sent) - 1  # all but the state, which is the observation's
    assert copied
    assert set(copied) <= set(pinned)


@pytest.mark.parametrize("gpu", [{"CAPTURES": "0"}], indirect=True)
def test_an_engine_that_cannot_be_captured_runs_without(bundle: Bundle, gpu: FakeDriver) -> None:
    engines = load_engines(bundle, Side.EDGE) | load_engines(bundle, Side.CLOUD)
    with OpenedEngines(engines) as opened:
        for _ in range(3):
            for part in bundle.plan.parts:
                inputs = {key: np.ones((1, 64), np.float32) for key in part.inputs}
                made = opened[part.name].run(inputs)
                assert np.isfinite(host_arrays(made.values())[0]).all()
        assert not any(engine.captures for engine in opened.values())
    assert count(gpu, "cuGraphLaunch") == 0


def test_robots_share_engines_and_no_state(bundle: Bundle, gpu: FakeDriver) -> None:
    """Eight steps each of three robots at once, with observations of their own."""
    plan, edge = bundle.plan, load_engines(bundle, Side.EDGE)
    failed: list[str] = []
    with served(plan, load_engines(bundle, Side.CLOUD), bundle.digest, timeout=20.0) as server:

        def drive(seed: int) -> None:
            observation = {
                key: array * (1 + seed) for key, array in observations(bundle)[seed].items()
            }
            wanted = expected(bundle, observation)
            with EdgeSession(plan, bundle.digest, edge, server.address, 20.0) as session:
                for _ in range(8):
                    made = session.step(observation)["action"]
                    if not np.allclose(made, wanted, rtol=1e-5, atol=1e-6):
                        failed.append(f"robot {seed}: {np.abs(made - wanted).max()}")

        robots = [threading.Thread(target=drive, args=(seed,)) for seed in range(3)]
        for robot in robots:
            robot.start()
        for robot in robots:
            robot.join(60)
    assert not failed


def test_a_control_loop_gives_back_what_it_took(bundle: Bundle, gpu: FakeDriver) -> None:
    engines = load_engines(bundle, Side.EDGE) | load_engines(bundle, Side.CLOUD)
    observation = observations(bundle)[0]
    run_both(bundle.plan, engines, 0, observation)  # the scratch memory stays
    held = set(gpu.device)
    with served(bundle.plan, load_engines(bundle, Side.CLOUD), bundle.digest) as server:
        with EdgeSession(bundle.plan, bundle.digest, engines, server.address) as session:
            for _ in range(4):
                session.step(observation)
            assert gpu.launched
            assert gpu.host
        del session
    gc.collect()
    assert len(set(gpu.device) - held) == 1  # the server's engines have scratch memory, too
    for kept in (gpu.host, gpu.queues, gpu.events, gpu.launched, gpu.graphs):
        assert not kept


def test_tensors_in_use_are_not_overwritten(bundle: Bundle, gpu: FakeDriver) -> None:
    """Whoever holds an output has it, however often the engine runs; then it is used again."""
    part = bundle.plan.part["decode.0"]
    with OpenedEngines(load_engines(bundle, Side.CLOUD)) as opened:
        engine = opened[part.name]
        made = [
            engine.run({key: np.full((1, 64), value, np.float32) for key in part.inputs})
            for value in (0.1, 0.2, 0.3)
        ]
        arrays = [np.array(host_arrays(item.values())[0]) for item in made]
        assert not np.allclose(arrays[0], arrays[1])
        again = [np.array(host_arrays(item.values())[0]) for item in made]
        for one, other in zip(arrays, again, strict=True):
            np.testing.assert_array_equal(one, other)
        addresses = {tensor.address for item in made for tensor in item.values()}
        assert len(addresses) == 3
        del made
        later = engine.run({key: np.full((1, 64), 0.4, np.float32) for key in part.inputs})
        assert {tensor.address for tensor in later.values()} <= addresses


def test_bytes_that_wait_to_be_sent_stay_as_they_are(bundle: Bundle, gpu: FakeDriver) -> None:
    """The wire holds a view when the next trips have long replaced the tensor."""
    part = bundle.plan.part["decode.0"]
    with OpenedEngines(load_engines(bundle, Side.CLOUD)) as opened:

        def run(value: float) -> np.ndarray:
            given = {key: np.full((1, 64), value, np.float32) for key in part.inputs}
            return host_arrays(opened[part.name].run(given).values())[0]

        waiting = memoryview(run(0.1).reshape(-1).view(np.uint8))
        before = bytes(waiting)
        for value in (0.2, 0.3, 0.4):
            run(value)
        assert bytes(waiting) == before
        buffers = len(gpu.device)
        del waiting
        for value in (0.2, 0.3, 0.4):
            run(value)
        assert len(gpu.device) == buffers


def test_what_an_engine_refuses_is_named(bundle: Bundle, gpu: FakeDriver) -> None:
    with OpenedEngines(load_engines(bundle, Side.CLOUD)) as opened:
        engine = opened["encode.1"]
        with pytest.raises(BackendError, match=r"part encode.1: encode/embed is float64\[1, 64\]"):
            engine.run({"encode/embed": np.zeros((1, 64))})
    with pytest.raises(BackendError, match="was closed"):
        engine.run({"encode/embed": np.zeros((1, 64), np.float32)})


def test_profile_and_plain_runs_work_without_a_loop(bundle: Bundle, gpu: FakeDriver) -> None:
    measured = profile_bundle(bundle, (Side.EDGE, Side.CLOUD), 3)
    assert {part.name for part in measured.parts} == {part.name for part in bundle.plan.parts}


def test_every_cut_is_verified_against_the_record(bundle: Bundle, gpu: FakeDriver) -> None:
    results = verify_bundle(bundle)
    assert [result.name for result in results[2:]] == [each.name for each in bundle.plan.variants]
    assert "built of its parts" in results[1].why_not
    assert all(result.passed for result in results)


def test_connect_and_serve_find_the_engines(bundle: Bundle, gpu: FakeDriver) -> None:
    """By name alone; with the deadline's fallback, the edge has a loop of its own for it."""
    server = vlacut.serve(bundle.root)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"{server.address[0]}:{server.address[1]}"
        with vlacut.connect(bundle.root, address, deadline=20.0) as policy:
            action = policy.step(policy.bundle.golden("observation"))
            golden = policy.bundle.golden("action")
    finally:
        server.shutdown()
        thread.join()
    np.testing.assert_allclose(action["action"], golden["action"], rtol=1e-5, atol=1e-6)


def test_a_failing_context_is_told_to_the_robot(
    bundle: Bundle, gpu: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorrt

    plan, edge = bundle.plan, load_engines(bundle, Side.EDGE)
    with (
        served(plan, load_engines(bundle, Side.CLOUD), bundle.digest) as server,
        EdgeSession(plan, bundle.digest, edge, server.address) as session,
    ):
        monkeypatch.setattr(
            tensorrt.IExecutionContext, "execute_async_v3", lambda self, stream: False
        )
        with pytest.raises(VlacutError, match=r"part encode.0: TensorRT could not run it"):
            session.step(observations(bundle)[1])


def test_comparisons_with_golden_tensors() -> None:
    def off(made: Any, wanted: Any, dtype: str = "float32") -> float:
        golden = Golden({}, {"x": np.asarray(wanted)})
        found = compare({"x": np.asarray(made)}, golden, {"x": dtype})
        assert found.against == GOLDEN
        return found.error

    ones, inf = np.ones(4, np.float32), np.float32(np.inf)
    assert off(ones * 1.5, ones) == 0.5
    assert off([1.0, inf], [2.0, inf]) == 0.5  # masks are made of infinities
    assert off([1.0, inf], [2.0, 3.0]) == float("inf")
    assert off([1.0, np.nan], [1.0, 1.0]) == float("inf")
    assert off([0.0, 1e-9], [0.0, 0.0]) == float("inf")
    assert off([3, 4], [3, 4], "int64") == 0
    assert off([3, 5], [3, 4], "int64") == float("inf")
    carried = (np.array([1.0, 2.0], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    halved = (np.array([0.5, 2.0], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    assert off(halved, carried, "bfloat16") == 0.25


def test_the_robots_half_needs_little() -> None:
    """What is imported to run engines: numpy, and TensorRT's module once there is a driver."""
    import subprocess

    code = """
import sys
import vlacut_backends.tensorrt.execute, vlacut_backends.tensorrt.engine_builder
heavy = {"torch", "onnx", "onnx_ir", "click", "rich", "tensorrt", "onnxruntime"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_context_of_a_device_runs_for_the_first_time_in_a_step(
    bundle: Bundle, gpu: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A robot has contexts of its own on both sides, and the first run of each is on zeros."""
    firsts: dict[int, tuple[str, bool]] = {}
    runs: Counter[int] = Counter()
    kept = []  # so that no two have one id
    run = OpenTensorRTEngine.run

    def counted(engine: OpenTensorRTEngine, inputs: Mapping[str, Any]) -> Any:
        arrays = host_arrays(inputs.values())
        firsts.setdefault(id(engine), (engine._part.name, not any(map(np.any, arrays))))
        runs[id(engine)] += 1
        kept.append(engine)
        return run(engine, inputs)

    monkeypatch.setattr(OpenTensorRTEngine, "run", counted)
    server = vlacut.serve(bundle.root)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"{server.address[0]}:{server.address[1]}"
        for _ in range(2):  # the second robot has others than the first
            with vlacut.connect(bundle.root, address) as policy:
                for observed in observations(bundle, 2):
                    policy.step(observed)
    finally:
        server.shutdown()
        thread.join()
    parts = {part.name for part in bundle.plan.parts}
    stepped = [name for one, (name, _) in firsts.items() if runs[one] > 1]
    assert Counter(stepped) == Counter([*parts, *parts])
    assert all(on_zeros for _, on_zeros in firsts.values())
