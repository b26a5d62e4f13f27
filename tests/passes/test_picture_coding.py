"""Pictures coded with the cut: chosen under the bound, priced, verified, simulated and run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.coding import encoded
from support.pictures import camera_program, example

from vlacut.bundle.opened import Bundle
from vlacut.compiler.driver import compile_program
from vlacut.compiler.planning import plan_program
from vlacut.compiler.target import Target
from vlacut.emulation import shape_of
from vlacut.emulation.observation import planned_observation
from vlacut.emulation.twin import run_twin
from vlacut.hardware import parse_link
from vlacut.hardware.service import Service
from vlacut.hardware.trace import Trace
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.program import Program
from vlacut.plans.plan import Plan
from vlacut.pricing.picture_cost import USUAL_BITS
from vlacut.runtime.verification import verify_bundle
from vlacut.simulation.walk import SimulatedLink, StepWalk
from vlacut.tensor.codec import Codec

SIDE = 96
SLOW = "1MB/s,5ms"


def asked(codecs: str = "", **options: object) -> Target:
    return Target(
        "jetson-agx-orin",
        "a100",
        SLOW,
        pin=("*=cloud",),
        codecs=codecs,
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return camera_program(tmp_path_factory.mktemp("cameras"), SIDE)


def chosen(plan: Plan) -> dict[str, Codec]:
    return {one.tensor: one.codec for one in plan.variants[0].coded}


def test_jpeg_is_chosen_within_the_bound_and_zstd_below_it(program: Program) -> None:
    raw = plan_program(program, asked()).plan.variants[0]
    codecs = "zstd,jpeg95,jpeg90,jpeg50"
    found = plan_program(program, asked(codecs)).plan
    assert chosen(found) == {"top": Codec.JPEG50, "wrist": Codec.JPEG50}
    assert found.variants[0].price.total_s < 0.3 * raw.price.total_s
    rows = {row.name: row for row in found.strategies}
    assert "all-cloud-jpeg" not in rows
    assert rows["all-cloud-coded"].feasible
    worst = found.variants[0].action_error.measured
    assert worst is not None
    assert worst > 0
    for share, kinds in ((0.5, codecs), (0.01, codecs), (0.0, "zstd")):
        kept = plan_program(program, asked(codecs, max_action_error=share * worst)).plan
        error = kept.variants[0].action_error.measured
        assert error is not None
        assert error <= share * worst
        assert chosen(kept)
        assert {str(codec) for codec in chosen(kept).values()} <= set(kinds.split(","))


def test_bytes_are_those_of_the_example_or_of_photographs(program: Program) -> None:
    seen = example(SIDE)
    found = plan_program(program, asked("jpeg90"))
    sizes = {one.tensor: one.coded_bytes for one in found.plan.variants[0].coded}
    assert sizes == {key: encoded(Codec.JPEG90, seen[key]).size for key in ("top", "wrist")}
    assert found.plan.variants[0].price.bytes_up == sum(sizes.values()) + 7 * 4
    assert not any("photographs" in line for line in found.warnings)
    EXAMPLE.put(program, seen | {"top": np.zeros_like(seen["top"])})
    try:
        blind = plan_program(program, asked("jpeg90"))
    finally:
        EXAMPLE.put(program, seen)
    (top,) = (one for one in blind.plan.variants[0].coded if one.tensor == "top")
    assert top.coded_bytes == -(-SIDE * SIDE * USUAL_BITS[Codec.JPEG90] // 8)
    assert any("priced as photographs" in line and "top" in line for line in blind.warnings)


def test_a_row_says_what_pictures_could_save_without_codecs(program: Program) -> None:
    rows = {row.name: row for row in plan_program(program, asked()).plan.strategies}
    assert rows["all-cloud-jpeg"].why_not == "not bit-exact: --codecs jpeg90 allows it"
    assert rows["all-cloud-jpeg"].price.total_s < rows["all-cloud"].price.total_s


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, program: Program) -> Bundle:
    target = asked("all", max_action_error=0.05, pool="portfolio:100MB")
    _, made = compile_program(program, target, tmp_path_factory.mktemp("b") / "b")
    return made


def test_verify_runs_coded_pictures(bundle: Bundle) -> None:
    results = verify_bundle(bundle)
    assert all(result.passed for result in results), results
    coded = [one for one in bundle.plan.variants if one.coded]
    assert any(crossing.codec.varies for one in coded for crossing in one.coded)


def test_the_simulation_sends_what_is_planned(program: Program) -> None:
    found = plan_program(program, asked("jpeg90")).plan
    link = found.link
    service = Service(Trace((link.up,), (1.0,)))
    network = SimulatedLink(service, service, link.rtt / 2, link.rtt)
    took = StepWalk(found, 0).end(0.0, network)
    assert took == pytest.approx(found.variants[0].price.total_s, rel=0.03)


def test_the_twin_sends_as_many_bytes_as_are_planned(tmp_path: Path, program: Program) -> None:
    _, made = compile_program(program, asked("jpeg90"), tmp_path / "b", backend="emulated")
    planned = made.plan.variants[0].price
    seen = planned_observation(made.plan)
    for one in made.plan.variants[0].coded:
        assert encoded(one.codec, seen[one.tensor]).size == pytest.approx(one.coded_bytes, rel=0.1)
    done = run_twin(made.root, shape_of(parse_link(SLOW)), steps=4)
    for step in done:
        assert step.report.bytes_up == pytest.approx(planned.bytes_up, rel=0.1)
        assert step.report.edge_codec_s > 0
