"""Noise that the edge draws: the same for a step whoever makes it, and however often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.cutting import run_whole
from support.deployments import DIGEST, Held, deployment_with_alone, served

from vlacut.errors import BundleError, InputError, ObservationError
from vlacut.hardware import Side
from vlacut.ir.program import Program
from vlacut.plans.plan import Plan
from vlacut.runtime.edge.report import Source
from vlacut.runtime.edge.session import EdgeSession
from vlacut.split.observations import example_observation
from vlacut.tensor import TensorSpec
from vlacut.tensor.noise import Noise, NoiseSource


def noisy() -> tuple[Program, Plan, dict, dict[str, np.ndarray]]:
    """A program cut at random whose first input is noise, and an observation without it."""
    program, plan, engines = deployment_with_alone()
    name = program.inputs[0].name
    plan = replace(plan, noise=(Noise(name, "normal", 1.0, 0.5),))
    observed = {key: value for key, value in example_observation(program).items() if key != name}
    return program, plan, engines, observed


def meant(program: Program, plan: Plan, observed: dict, seed: int, step: int) -> dict:
    specs = {spec.name: spec for spec in plan.inputs}
    given = NoiseSource(plan.noise, specs, seed).complete(observed, step)
    return run_whole(program, dict(given))


def check(session: EdgeSession, case: tuple, seed: int, steps: range) -> list[Source]:
    program, plan, _, observed = case
    sources = []
    for step in steps:
        made = session.step(observed)
        for name, array in meant(program, plan, observed, seed, step).items():
            np.testing.assert_array_equal(made[name], array)
        sources.append(session.last.source)
    return sources


def test_step_n_has_the_noise_of_seed_and_step() -> None:
    case = noisy()
    _, plan, engines, _ = case
    with served(plan, engines) as server:
        for seed in (0, 7):
            with EdgeSession(plan, DIGEST, engines, server.address, 5.0, seed=seed) as session:
                check(session, case, seed, range(3))
                given = example_observation(case[0])
                made = session.step(given)  # noise that is given is taken
                for name, array in run_whole(case[0], given).items():
                    np.testing.assert_array_equal(made[name], array)
                check(session, case, seed, range(4, 5))
                with pytest.raises(ObservationError, match="missing from the observation"):
                    session.step({})


@pytest.mark.parametrize("hedge", [False, True])
def test_a_step_made_by_the_edge_alone_has_the_same_noise(hedge: bool) -> None:
    case = noisy()
    _, plan, engines, _ = case
    cloud = [part.name for part in plan.parts if part.side is Side.CLOUD]
    held = {name: Held(engine) if name in cloud else engine for name, engine in engines.items()}
    with served(plan, held, timeout=20.0) as server:
        options = {"deadline": 0.5, "hedge": hedge, "seed": 5}
        with EdgeSession(plan, DIGEST, engines, server.address, 20.0, **options) as session:
            assert Source.ALONE in check(session, case, 5, range(2))
        for name in cloud:
            held[name].go.set()


def test_numbers_are_those_of_the_documentation() -> None:
    spec = TensorSpec("n", "float32", (3,))
    noise = Noise("n", "normal", 2.0, 0.5)
    seeded = np.random.Generator(np.random.PCG64(np.random.SeedSequence((4, 9, 1))))
    wanted = (seeded.standard_normal(3) * 0.5 + 2.0).astype(np.float32)
    np.testing.assert_array_equal(noise.draw(spec, 4, 9, 1), wanted)
    assert len({noise.draw(spec, *at).tobytes() for at in ((0, 0, 0), (1, 0, 0), (0, 1, 0))}) == 3


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", "int64"])
def test_distributions_are_what_they_are_called(dtype: str) -> None:
    spec = TensorSpec("n", dtype, (40_000,))

    def drawn(*what: float | str) -> np.ndarray:
        made = Noise("n", *what).draw(spec, 0, 0, 0)
        spec.check(made)
        bits = made.astype(np.uint32) << 16
        return bits.view(np.float32) if dtype == "bfloat16" else made.astype(np.float64)

    whole = drawn("integers", 3, 6)
    assert set(whole) == {3, 4, 5}
    coins = drawn("bernoulli", 0.25, 0.0)
    assert set(coins) == {0, 1}
    assert coins.mean() == pytest.approx(0.25, abs=0.02)
    if dtype != "int64":
        normal, uniform = drawn("normal", 2.0, 0.5), drawn("uniform", -1.0, 1.0)
        assert normal.mean() == pytest.approx(2.0, abs=0.02)
        assert normal.std() == pytest.approx(0.5, rel=0.02)
        assert -1 <= uniform.min() < -0.99
        assert uniform.std() == pytest.approx(2 / np.sqrt(12), rel=0.02)


def test_noise_that_is_none_is_refused() -> None:
    _, plan, _, _ = noisy()
    name = plan.inputs[0].name
    for one, message in (
        (Noise("elsewhere", "normal", 0, 1), "noise elsewhere: no such input"),
        (Noise(name, "cauchy", 0, 1), "is none of normal, uniform"),
        (Noise(name, "normal", 0, -1), "has no such numbers"),
        (Noise(name, "bernoulli", 2, 0), "has no such numbers"),
        (Noise(name, "integers", 5, 5), "has no such numbers"),
        (Noise(name, "normal", float("nan"), 1), "is none of"),
    ):
        with pytest.raises(BundleError, match=message):
            replace(plan, noise=(one,))
    with pytest.raises(BundleError, match="two noises share a name"):
        replace(plan, noise=plan.noise * 2)
    with pytest.raises(InputError, match="the seed is -1; it must be 0 or more"):
        NoiseSource((), {}, -1)
