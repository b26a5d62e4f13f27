"""Random programs as users have them, cut at random, over the real runtime's sockets."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.cutting import plan_of, write_cuts
from support.deployments import DIGEST, OrtEngine, served
from support.onnx_text import write
from support.programs import cut_at_random
from support.random_models import random_model
from support.two_processes import run_many

from vlacut.errors import BundleError
from vlacut.frontends.load import load_program
from vlacut.hardware import Side
from vlacut.ir.annotation import SECONDS, Seconds
from vlacut.ir.dataflow import trace_dataflow
from vlacut.ir.graphs import operators
from vlacut.ir.verifier import verify
from vlacut.plans.instructions import Transfer
from vlacut.plans.plan import Plan
from vlacut.runtime.edge.session import EdgeSession
from vlacut.split.parts import split


def deployed(seed: int, folder: Path) -> tuple[Plan, dict[str, OrtEngine]]:
    program = load_program(str(random_model(seed, remembers=False).write(folder)))
    verify(program)
    dataflow = cut_at_random(program, seed)
    made = split(dataflow)
    engines = {
        part.name: OrtEngine(model, part.outputs)
        for part, model in zip(made.parts, made.models, strict=True)
    }
    return plan_of(dataflow, made), engines


OF_WEIGHTS = """
g (float[3] x) => (float[3] y) {
  [name="scale"] drawn = Tanh(w)
  [name="sum"] total = Add(x, big)
  [name="end"] y = Mul(total, drawn)
}
"""


def run(seed: int, folder: Path, steps: int = 2) -> None:
    """A robot and a server of a random program, against ONNX Runtime on the files."""
    model = random_model(seed, remembers=False)  # state is through two processes, below
    plan, engines = deployed(seed, folder)
    address = None
    with served(plan, engines) as server:
        if any(plan.crosses):
            address = server.address
        with EdgeSession(plan, DIGEST, engines, address, timeout=2.0) as policy:
            for step in range(steps):
                observed = model.observation(step)
                action = policy.step(observed)
                for name, expected in model.expected(observed).items():
                    np.testing.assert_array_equal(action[name], expected, err_msg=f"{seed} {name}")


@pytest.mark.parametrize("seed", range(25))
def test_a_random_program_runs_over_the_real_runtime(seed: int, tmp_path: Path) -> None:
    run(seed, tmp_path / "model")


def test_random_programs_through_two_processes(tmp_path: Path) -> None:
    count = run_many(range(8, 20), tmp_path)
    assert count["programs"] == 12
    assert count["crossing"] >= 4
    assert count["pooled"] >= 4
    assert count["remembering"] >= 2


@pytest.mark.slow
def test_random_programs_through_two_processes_for_a_minute(tmp_path: Path) -> None:
    first = int.from_bytes(os.urandom(3), "big")
    print(f"the first seed is {first}")
    assert run_many(range(first, first + 10_000), tmp_path, 60.0, least=20)["crossing"] > 5


def test_a_cloud_that_reads_weights_alone_hears_of_every_step_and_that_is_priced(
    tmp_path: Path,
) -> None:
    weights = {"w": np.arange(9, dtype=np.float32).reshape(3, 3)}
    folder = tmp_path / "model"
    folder.mkdir()
    write(
        folder / "make.onnx",
        "g () => (float[3] made) { made = ReduceSum(w, axes) }",
        {**weights, "axes": np.array([0])},
    )
    write(folder / "use.onnx", "g (float[3] x, float[3] made) => (float[3] y) { y = Add(x, made) }")
    (folder / "program.toml").write_text(
        'outputs = ["y"]\n'
        '[[phase]]\nname = "make"\nfile = "make.onnx"\n'
        '[[phase]]\nname = "use"\nfile = "use.onnx"\n'
    )
    program = load_program(str(folder))
    for phase in program.phases:
        for node in operators(phase.model.graph):
            SECONDS.put(node, Seconds(0.0, 0.0))
    dataflow = trace_dataflow(program)
    sides = [Side.CLOUD if phase == 0 else Side.EDGE for phase in dataflow.phases]
    write_cuts(dataflow, sides)
    made = split(dataflow)
    plan = plan_of(dataflow, made)
    first, *rest = plan.variants[0].schedule
    assert first == Transfer((), Side.EDGE)
    assert plan.variants[0].price.hops == 2  # the step begins, what is made comes down
    with pytest.raises(BundleError, match="before it hears of the step"):
        replace(plan, variants=(replace(plan.variants[0], schedule=tuple(rest)),))
    engines = {
        part.name: OrtEngine(model, part.outputs)
        for part, model in zip(made.parts, made.models, strict=True)
    }
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address, timeout=2.0) as policy,
    ):
        for step in range(3):
            x = np.full(3, step, np.float32)
            np.testing.assert_array_equal(policy.step({"x": x})["y"], x + np.array([9, 12, 15]))
            assert policy.last.frames == 2
