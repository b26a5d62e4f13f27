"""PyTorch as an executor: it agrees with ONNX Runtime, alone and across the link."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from support.cutting import Reference, run_whole
from support.deployments import crossing_deployment, deployed, initial_of, pool_deployment, served
from support.fake_machine import TARGET
from support.mixed import BOTH_WAYS, Maker
from support.one_operator import one_operator, tensor
from support.programs import looping_program, observation, random_program, random_stateful
from support.proxy import DOWN, UP, Fault, Proxy

from vlacut.bundle.opened import Bundle
from vlacut.compiler.driver import compile_program
from vlacut.errors import BackendError, DeadlineMissed, UnsupportedError
from vlacut.hardware import Side
from vlacut.plans.instructions import Move, Run, steps
from vlacut.runtime.edge.report import Source
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.engines import load_engines
from vlacut.runtime.local import run_both, run_episode
from vlacut.runtime.verification import verify_bundle
from vlacut_backends.torch.execute import TorchExecutor, chosen_provider

SHARE = 1e-5  # of the largest magnitude: products are summed in another order
ONE = dict.fromkeys(Side, "torch")
PAIRS = pytest.mark.parametrize("names", [ONE, *BOTH_WAYS], ids=["torch", "cloud", "edge"])


def off(made: np.ndarray, wanted: np.ndarray) -> float:
    """As a share of the largest magnitude; nothing may differ in what is no floating point."""
    if wanted.dtype.kind != "f":
        return float(not np.array_equal(made, wanted))
    largest = np.abs(wanted).max(initial=0.0)
    return float(np.abs(made - wanted).max(initial=0.0) / (largest or 1.0))


def agree(made: dict[str, np.ndarray], wanted: dict[str, np.ndarray], share: float = SHARE) -> None:
    assert made.keys() == wanted.keys()
    for key, array in wanted.items():
        assert made[key].dtype == array.dtype
        assert made[key].shape == array.shape
        assert off(made[key], array) <= share, key


@PAIRS
@pytest.mark.parametrize("seed", range(6))
def test_random_cuts_agree_with_onnx_runtime(
    seed: int, names: dict[Side, str], tmp_path: Path
) -> None:
    program = random_program(seed)
    plan, engines = deployed(program, seed, Maker(tmp_path, names))
    observed = observation(program, seed)
    agree(run_both(plan, engines, 0, observed), run_whole(program, observed))


@PAIRS
@pytest.mark.parametrize("seed", range(3))
def test_pools_with_state_agree_step_after_step(
    seed: int, names: dict[Side, str], tmp_path: Path
) -> None:
    program = random_stateful(seed)
    plan, engines = pool_deployment(program, seed, make=Maker(tmp_path, names))
    reference = Reference(program)
    observed = [observation(program, number) for number in range(4)]
    wanted = [reference.step(one) for one in observed]
    for variant in range(len(plan.variants)):
        steps = run_episode(plan, engines, variant, observed, initial_of(program))
        for step, action in zip(steps, wanted, strict=True):
            agree(step.action, action)


@pytest.mark.parametrize("names", BOTH_WAYS, ids=["cloud", "edge"])
def test_no_fault_makes_a_mixed_action_wrong(names: dict[Side, str], tmp_path: Path) -> None:
    program, plan, engines = crossing_deployment(Maker(tmp_path, names))
    observed = [observation(program, number) for number in range(4)]
    wanted = [run_whole(program, one) for one in observed]
    faults = [
        Fault(kind, direction, after)
        for kind in ("cut", "corrupt", "duplicate", "drop")
        for direction, after in ((UP, 40), (DOWN, 90))
    ]
    answered = 0
    with served(plan, engines, timeout=0.5) as server, Proxy(server.address) as proxy:
        mine = {part.name: engines[part.name] for part in plan.parts if part.side is Side.EDGE}
        options: dict[str, Any] = {"deadline": 1.0, "timeout": 0.5, "checked": True}
        with EdgeSession(plan, bytes(range(32)), mine, proxy.address, **options) as session:
            for number, fault in enumerate([*faults, None, None, None]):
                proxy.arm(fault)
                try:
                    action = session.step(observed[number % 4])
                except DeadlineMissed:
                    continue
                if session.last.source is Source.CHOSEN:  # not the last action again
                    answered += 1
                    agree(action, wanted[number % 4])
    assert proxy.struck >= len(faults) - 2
    assert answered >= 3


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("torch") / "mixed.vlacut"
    return compile_program(looping_program(), TARGET, path, backend="edge=onnxruntime,cloud=torch")[
        1
    ]


def test_a_mixed_bundle_verifies(bundle: Bundle) -> None:
    assert bundle.manifest.tolerances == {"edge": 0.0, "cloud": 1e-4}
    assert bundle.recipe(Side.CLOUD) == {"provider": "cuda,cpu"}
    assert not (bundle.root / "golden" / "parts").exists()  # both run where it was made
    assert all(result.passed for result in verify_bundle(bundle))


def test_what_a_part_makes_is_no_view_of_what_it_was_given(tmp_path: Path) -> None:
    """Frames are overwritten by the next step's, and weights are mapped files."""
    program = one_operator(
        "Reshape", [tensor("x", (4, 2)), shape := _ints("shape", 8)], (8,), [shape]
    )
    plan, engines = deployed(program, 0, Maker(tmp_path, ONE))
    given = np.arange(8, dtype=np.float32).reshape(4, 2)
    (name,) = engines
    made = engines[name].run({plan.parts[0].inputs[0]: given})
    (array,) = made.values()
    assert np.array_equal(array, given.ravel())
    assert not np.shares_memory(array, given)


def _ints(name: str, *numbers: int) -> ir.Value:
    made = tensor(name, (len(numbers),), ir.DataType.INT64)
    made.const_value = ir.tensor(np.array(numbers, np.int64), name=name)
    return made


def test_an_operator_that_it_lacks_is_named_at_compile_time(tmp_path: Path) -> None:
    program = one_operator("Einsum", [tensor("x", (4, 4))], (4,), equation="ii->i")
    with pytest.raises(UnsupportedError, match=r"main\.0\.onnx: Einsum it is not known") as found:
        compile_program(program, replace(TARGET, pin=()), tmp_path / "p.vlacut", backend="torch")
    assert "\n" not in str(found.value)
    assert not (tmp_path / "p.vlacut").exists()


def test_a_provider_that_is_not_here_says_what_to_do(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"sees no GPU: look at nvidia-smi, .*--provider cpu"):
        chosen_provider("cuda")
    with pytest.raises(BackendError, match="provider 'tpu': PyTorch has cuda and cpu"):
        chosen_provider("tpu")
    assert chosen_provider("cuda,cpu") == "cpu"
    part = bundle.parts(Side.CLOUD)[0]
    with pytest.raises(BackendError, match="sees no GPU"):
        TorchExecutor().load(bundle.part_path(part), bundle.root, {"provider": "cuda"})


def test_bfloat16_is_computed_as_it_is(tmp_path: Path) -> None:
    target = replace(TARGET, precision="bfloat16")
    made = compile_program(looping_program(), target, tmp_path / "b.vlacut", backend="torch")[1]
    assert "bfloat16" in {
        made.plan.spec[key].dtype for part in made.plan.parts for key in part.outputs
    }
    assert made.manifest.tolerance == 8 * 2.0**-7
    assert all(result.passed for result in verify_bundle(made))
    plain = compile_program(looping_program(), TARGET, tmp_path / "f.vlacut")[1]
    agree(made.golden("action"), plain.golden("action"), made.manifest.tolerance)


_RESIDENT = """
import gc, sys
from pathlib import Path
import numpy as np
from vlacut_backends.torch.execute import TorchExecutor
root, executor = Path(sys.argv[1]), TorchExecutor()
def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
engines, given = [], {"x": np.ones((1, int(sys.argv[2])), np.float32)}
engines.append(executor.load(root / "small.onnx", root, {}))
engines[-1].run(given)
before = resident()
for name in ("prefill", "decode"):
    engines.append(executor.load(root / f"{name}.onnx", root, {}))
    engines[-1].run(given)
    print(resident() - before)
"""


def test_two_phases_of_one_language_model_hold_its_weights_once(tmp_path: Path) -> None:
    """Resident memory after both phases is at most 1.05 of the weights' bytes."""
    from vlacut.split.emission import save
    from vlacut.split.weights import WeightStore

    width, layers = 2048, 4
    numbers = np.random.default_rng(0)
    arrays = [
        numbers.standard_normal((width, width)).astype(np.float32) / width**0.5
        for _ in range(layers)
    ]

    def phase(name: str, kind: str, prefix: str, arrays: list[np.ndarray]) -> ir.Model:
        x = tensor("x", (1, width))
        value, nodes, weights = x, [], []
        for number in range(len(arrays)):
            weight = tensor(f"{prefix}{number}", (width, width))
            weight.const_value = ir.tensor(arrays[number], name=weight.name)
            weights.append(weight)
            for one in ("MatMul", kind):
                inputs = [value, weight] if one == "MatMul" else [value]
                nodes.append(ir.node(one, inputs, name=f"{one}{number}"))
                value = nodes[-1].outputs[0]
                value.name, value.dtype = f"{one}{number}", ir.DataType.FLOAT
                value.shape = ir.Shape((1, width))
        graph = ir.Graph([x], [value], nodes=nodes, initializers=weights, opset_imports={"": 20})
        graph.name = name
        return ir.Model(graph, ir_version=10)

    models = {
        "small": ("Tanh", "other", [arrays[0] * 0]),  # what PyTorch itself takes to begin
        "prefill": ("Tanh", "weight", arrays),
        "decode": ("Sigmoid", "weight", arrays),
    }
    with WeightStore(tmp_path) as store:
        for name, described in models.items():
            model = phase(name, *described)
            store.externalise(model)
            save(model, tmp_path / f"{name}.onnx")
    command = [sys.executable, "-c", _RESIDENT, str(tmp_path), str(width)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    _, both = map(int, run.stdout.split())
    weights = layers * arrays[0].nbytes
    assert 0.9 * weights < both <= 1.05 * weights


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["", "bfloat16"])
@pytest.mark.parametrize(
    "model", ["cogact", "openvla", "openvla-oft", "pi0", "roboflamingo", "smolvla", "vit-mlp"]
)
def test_every_part_of_the_zoo(model: str, precision: str, tmp_path: Path) -> None:
    """Cut and pooled: each part on the same inputs, in float32 by ONNX Runtime."""
    check_zoo(model, precision, tmp_path)


def test_every_part_of_the_smallest_model(tmp_path: Path) -> None:
    check_zoo("vit-mlp", "", tmp_path)


def check_zoo(model: str, precision: str, folder: Path) -> None:
    from vlacut.compiler.uncut import Reference as Other
    from vlacut.frontends.load import load_program

    asked = replace(
        TARGET, pin=(), pool="portfolio:400MB", link="50MB/s,0.1ms", precision=precision
    )
    program = load_program(f"{model}:tiny", {})
    bundle = compile_program(program, asked, folder / "p.vlacut", backend="torch")[1]
    assert all(result.passed for result in verify_bundle(bundle))
    engines = load_engines(bundle, Side.EDGE) | load_engines(bundle, Side.CLOUD)
    (folder / "other").mkdir()
    other = Other("onnxruntime", bundle.root, folder / "other")
    references = {part.name: other.load(f"parts/{part.name}.onnx") for part in bundle.plan.parts}
    share = 8 * 2.0**-7 if precision else SHARE
    seen = set()
    for variant in bundle.plan.variants:
        held = {**bundle.golden("observation"), **bundle.initial_state()}
        for _, _, _, instruction in steps((*variant.first, *variant.schedule)):
            if isinstance(instruction, Run):
                part = bundle.plan.part[instruction.part]
                given = {key: held[key] for key in part.inputs}
                made, wanted = engines[part.name].run(given), references[part.name].run(given)
                for key in part.outputs:
                    kind = bundle.plan.spec[key].dtype
                    apart = off(_numbers(made[key], kind), _numbers(wanted[key], kind))
                    assert apart <= share, f"{part.name}: {key}"
                held |= wanted
                seen.add(part.name)
            elif isinstance(instruction, Move):
                held[instruction.target] = held[instruction.source]
    assert seen == {part.name for part in bundle.plan.parts}


def _numbers(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if array.dtype == np.float16 else array
