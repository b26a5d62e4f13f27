"""ONNX Runtime's providers: which is taken, and what is said where one cannot be; and parts bound
to a GPU's memory, on a fake driver whose device memory the CPU provider can reach.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest
from support.commands import Vlacut
from support.deployments import served
from support.fake_machine import TARGET, fake_machine
from support.programs import looping_program

from vlacut.bundle.opened import Bundle
from vlacut.compiler.driver import compile_program
from vlacut.errors import BackendError, InputError
from vlacut.hardware import Side
from vlacut.hardware.driver import SeenDriver, SeenGpu, seen_driver
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.engines import OpenedEngines, load_engines
from vlacut.runtime.local import run_both
from vlacut.runtime.verification import verify_bundle
from vlacut_backends.cuda.driver import driver
from vlacut_backends.onnxruntime import bound, providers
from vlacut_backends.onnxruntime.bound import BoundEngine
from vlacut_backends.onnxruntime.opening import open_session

if TYPE_CHECKING:
    from fakes.fake_cuda import FakeDriver

GPU = SeenDriver(12040, (SeenGpu("GPU", 80, 1 << 36, 108),))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("bound") / "looping.vlacut"
    return compile_program(looping_program(), TARGET, path)[1]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeDriver]:
    with fake_machine(monkeypatch, tmp_path / "engines") as found:
        yield found


def engines_of(bundle: Bundle, side: Side | None = None) -> dict[str, BoundEngine]:
    return {
        part.name: BoundEngine(
            open_session(
                bundle.part_path(part).read_bytes(),
                part.name,
                bundle.recipe(part.side),
                bundle.root,
            ),
            part.name,
            driver(),
            device="cpu",
        )
        for part in bundle.plan.parts
        if side in (None, part.side)
    }


def test_bound_parts_give_the_same_bits(bundle: Bundle, gpu: FakeDriver) -> None:
    wanted = bundle.golden("action")["action"]
    observed = bundle.golden("observation")
    np.testing.assert_array_equal(
        run_both(bundle.plan, engines_of(bundle), 0, observed)["action"], wanted
    )
    part = bundle.plan.parts[0]
    given = {key: np.ones((1, 64), np.float32) for key in part.inputs}
    plain = load_engines(bundle, part.side)[part.name].run(given)
    for _ in range(3):
        made = engines_of(bundle)[part.name].run(given)
        for key, array in plain.items():
            np.testing.assert_array_equal(made[key], array)


def test_nothing_is_copied_that_need_not_be(bundle: Bundle, gpu: FakeDriver) -> None:
    """Of three trips, one action is copied to the host; what all trips read is copied up once."""

    def count(name: str) -> int:
        return int(gpu.calls.count(name))

    engines = engines_of(bundle)
    before = count("cuMemcpyDtoHAsync_v2"), count("cuMemcpyHtoDAsync_v2")
    run_both(bundle.plan, engines, 0, bundle.golden("observation"))
    after = count("cuMemcpyDtoHAsync_v2"), count("cuMemcpyHtoDAsync_v2")
    crossing = ["encode/embed", "encode/active", "encode/features", "decode/action"]
    assert after[0] - before[0] == len(crossing)
    # Up: image on the edge, state in the cloud, and each of the crossing ones but the action.
    assert after[1] - before[1] == 2 + len(crossing) - 1


def test_what_another_loop_s_part_made_is_not_copied(bundle: Bundle, gpu: FakeDriver) -> None:
    """A cut and the fallback beside it read one state."""
    engines = engines_of(bundle)
    part = next(part for part in bundle.plan.parts if part.phase == "decode")
    with OpenedEngines(engines) as mine, OpenedEngines(engines) as others:
        held = {key: np.ones((1, 64), np.float32) for key in part.inputs}
        (state,) = mine[part.name].run(held).values()
        before = [
            gpu.calls.count(name) for name in ("cuMemcpyDtoHAsync_v2", "cuMemcpyHtoDAsync_v2")
        ]
        there = {key: others[part.name].take(key, state) for key in part.inputs}
        (made,) = others[part.name].run(there).values()
        after = [gpu.calls.count(name) for name in ("cuMemcpyDtoHAsync_v2", "cuMemcpyHtoDAsync_v2")]
        assert before == after
        (wanted,) = engines[part.name].run(dict.fromkeys(part.inputs, state.array())).values()
        np.testing.assert_array_equal(made.array(), wanted)


def test_a_step_finds_its_memory_again(bundle: Bundle, gpu: FakeDriver) -> None:
    """So that graphs, which are of addresses, stay valid; and every part has its device time."""
    plan = bundle.plan
    with (
        served(plan, engines_of(bundle, Side.CLOUD), bundle.digest) as server,
        EdgeSession(plan, bundle.digest, engines_of(bundle, Side.EDGE), server.address) as session,
    ):
        for _ in range(3):
            session.step(bundle.golden("observation"))
        held = gpu.calls.count("cuMemAlloc_v2"), gpu.calls.count("cuMemHostAlloc")
        action = session.step(bundle.golden("observation"))["action"]
        assert held == (gpu.calls.count("cuMemAlloc_v2"), gpu.calls.count("cuMemHostAlloc"))
        assert set(session.last.device_s) == {part.name for part in bundle.parts(Side.EDGE)}
    np.testing.assert_array_equal(action, bundle.golden("action")["action"])


def test_graphs_are_numbered_by_addresses(
    bundle: Bundle, gpu: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider keeps a graph for each annotation: one for each set of addresses, no more."""
    asked: list[str] = []
    options = ort.RunOptions

    class Spied:
        def __init__(self) -> None:
            self.real = options()

        def add_run_config_entry(self, key: str, value: str) -> None:
            assert key == "gpu_graph_id"
            asked.append(value)

    part = bundle.plan.parts[0]
    engine = engines_of(bundle)[part.name]
    engine.graphs = True
    given = {key: np.ones((1, 64), np.float32) for key in part.inputs}
    real = engine.session.run_with_iobinding
    monkeypatch.setattr(bound.ort, "RunOptions", Spied)
    monkeypatch.setattr(
        engine.session, "run_with_iobinding", lambda binding, run: real(binding, run.real)
    )
    for _ in range(3):
        engine.run(given)
    assert asked == ["1", "1", "1"]
    monkeypatch.setattr(bound, "_MOST_GRAPHS", 1)
    other = BoundEngine(engine.session, part.name, driver(), "cpu", graphs=True)
    other.numbers[(1, 2)] = 1
    other.run(given)
    assert asked[-1] == "-1"


def test_what_does_not_fit_a_part_is_refused(bundle: Bundle, gpu: FakeDriver) -> None:
    part = bundle.plan.parts[0]
    engine = engines_of(bundle)[part.name]
    with pytest.raises(BackendError, match=r"is float64\[1, 64\], it takes float32\[1, 64\]"):
        engine.run({key: np.ones((1, 64)) for key in part.inputs})


def test_the_fake_driver_is_seen(gpu: FakeDriver) -> None:
    found = seen_driver()
    assert found is not None
    assert len(found.gpus) == 1
    assert found.gpus[0].sm == driver().gpu.sm
    assert found.gpus[0].multiprocessors == 108


@pytest.mark.parametrize(
    ("seen", "wheels", "available", "message"),
    [
        (None, {"onnxruntime"}, (), "no NVIDIA driver on this machine"),
        (SeenDriver(12040, ()), {"onnxruntime"}, (), "sees no GPU; look at CUDA_VISIBLE_DEVICES"),
        (GPU, {"onnxruntime"}, (), "is for the CPU alone: pip uninstall .* onnxruntime-gpu"),
        (
            GPU,
            {"onnxruntime", "onnxruntime-gpu"},
            (),
            "are both installed, and one has",
        ),
        (GPU, set(), (), "this build of ONNX Runtime .* lacks it; on a Jetson"),
        (
            SeenDriver(11080, GPU.gpus),
            {"onnxruntime-gpu"},
            ("CUDAExecutionProvider",),
            r"knows CUDA up to 11\.8, and ONNX Runtime .* is for 12: install a newer driver",
        ),
    ],
)
def test_a_provider_that_cannot_run_says_what_to_install(
    seen: SeenDriver | None,
    wheels: set[str],
    available: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(providers, "seen_driver", lambda: seen)
    monkeypatch.setattr(providers, "installed", lambda name: "1.0" if name in wheels else "")
    monkeypatch.setattr(providers.ort, "get_available_providers", lambda: available)
    monkeypatch.setattr(providers.ort, "cuda_version", "", raising=False)
    with pytest.raises(BackendError, match=message) as found:
        providers.chosen_provider("cuda")
    assert "\n" not in str(found.value)
    assert providers.chosen_provider("cuda,cpu") == "cpu"


def test_where_a_gpu_is_seen_the_cpu_is_not_taken_silently(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "vlacut.onnxruntime"):
        assert providers.chosen_provider("cuda,cpu") == "cpu"
        assert not caplog.messages  # no GPU here, nothing is missed
        monkeypatch.setattr(providers, "seen_driver", lambda: GPU)
        assert providers.chosen_provider("cuda,cpu") == "cpu"
    assert any("provider cuda" in message for message in caplog.messages)


def test_a_session_that_went_elsewhere_is_refused(
    bundle: Bundle, gpu: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime takes the CPU where a library of CUDA's is missing, and only prints that."""
    part = bundle.plan.parts[0]
    asked: list[Any] = []

    def fell_back(
        model: bytes, name: str, recipe: Mapping[str, str], root: Path, listed: Any
    ) -> Any:
        asked.append(listed)
        return open_session(model, name, recipe, root)

    monkeypatch.setattr(bound, "open_session", fell_back)
    monkeypatch.setattr(bound.ort, "preload_dlls", lambda: None, raising=False)
    load = bound.load_bound
    for provider, first in (("cuda", "CUDA"), ("tensorrt", "Tensorrt")):
        with pytest.raises(BackendError, match=f"provider {provider}: .* could not load it"):
            load(bundle.part_path(part), bundle.root, bundle.recipe(part.side), provider, None)  # type: ignore[arg-type]  # it gets no turn
        assert asked[-1][0][0] == f"{first}ExecutionProvider"
    kept = Path(asked[-1][0][1]["trt_engine_cache_path"])
    assert kept.is_dir()
    assert kept.parent.name == "onnxruntime"


def test_the_recipe_follows_the_device_and_the_option(bundle: Bundle, tmp_path: Path) -> None:
    assert bundle.recipe(Side.CLOUD)["provider"] == "cuda,cpu"  # an a100
    asked = {"provider": "edge=cpu,cloud=tensorrt+cuda"}
    made = compile_program(looping_program(), TARGET, tmp_path / "p.vlacut", **asked)[1]
    assert made.recipe(Side.EDGE)["provider"] == "cpu"
    assert made.recipe(Side.CLOUD)["provider"] == "tensorrt,cuda"
    with pytest.raises(InputError, match="--provider tpu: back end onnxruntime has cuda, tensorrt"):
        compile_program(looping_program(), TARGET, tmp_path / "q.vlacut", provider="tpu")
    with pytest.raises(InputError, match="back end tensorrt has none to choose from"):
        compile_program(
            looping_program(), TARGET, tmp_path / "q.vlacut", backend="tensorrt", provider="cuda"
        )
    with pytest.raises(BackendError, match="no NVIDIA driver"):
        load_engines(made, Side.CLOUD)
    assert load_engines(made, Side.CLOUD, provider="cpu")
    assert all(result.passed for result in verify_bundle(made))  # on the CPU, unless it is asked


def test_serve_refuses_in_one_line(bundle: Bundle, vlacut: Vlacut) -> None:
    status, _, said = vlacut("serve", bundle.root, "--port", 0, "--provider", "cuda")
    assert status == 2
    assert said.count("\n") == 1
    assert "provider cuda: no NVIDIA driver on this machine" in said


@pytest.mark.gpu
def test_parts_on_a_gpu(bundle: Bundle) -> None:
    reason = providers.why_not("cuda")
    if reason:
        pytest.skip(reason)
    assert all(result.passed for result in verify_bundle(bundle, provider="cuda"))
