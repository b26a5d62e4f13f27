"""Memory of the devices as a limit, energy as an objective, and what the last line says of both."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from support.programs import looping_program

from vlacut.cli.show.report import plan_json, verdict
from vlacut.compiler.planning import plan_program
from vlacut.compiler.target import Target
from vlacut.errors import HardwareError, InfeasibleError, InputError
from vlacut.hardware import load_device, load_profile
from vlacut.ir.dataflow import weights_of
from vlacut.pricing.price import Price

LINK = "10MB/s,1ms"


def small(tmp_path: Path, weights: int) -> str:
    """An Orin with so many bytes for weights, and as many again for the system."""
    text = (Path(str(files("vlacut"))) / "hardware/profiles/jetson-agx-orin.toml").read_text()
    for figure, nbytes in (("memory_bytes", 2 * weights), ("reserve_bytes", weights)):
        text = re.sub(rf"(?m)^{figure} = \S+", f"{figure} = {nbytes}", text, count=1)
    path = tmp_path / "small.toml"
    path.write_text(text)
    return str(path)


def test_what_does_not_fit_on_the_edge_is_refused_there_by_how_much(tmp_path: Path) -> None:
    program = looping_program()
    total = sum(weights_of(program).values())
    edge = small(tmp_path, total - 1)
    plan = plan_program(program, Target(edge, "a100", LINK)).plan
    rows = {row.name: row for row in plan.strategies}
    assert rows["all-edge"].why_not.startswith(f"weights on the edge: {total} bytes, 1 bytes over")
    assert "are kept for the system and activations" in rows["all-edge"].why_not
    assert plan.variants[0].price.edge_weight_bytes < total
    allowed = plan_program(looping_program(), Target(edge, "a100", LINK, edge_memory="1GB")).plan
    assert {row.name: row for row in allowed.strategies}["all-edge"].feasible


def test_what_fits_on_neither_machine_names_both_limits(tmp_path: Path) -> None:
    program = looping_program()
    total = sum(weights_of(program).values())
    target = Target(small(tmp_path, total // 3), "a100", LINK, cloud_budget=f"{total // 3}B")
    with pytest.raises(InfeasibleError, match="no cut keeps these limits together") as refused:
        plan_program(program, target)
    for name in ("weights in the cloud: at least", "weights on the edge: at least"):
        assert name in str(refused.value)


def test_the_least_energy_is_what_the_profile_says(tmp_path: Path) -> None:
    target = Target("jetson-agx-orin@30W", "a100", LINK, minimise="energy")
    plan = plan_program(looping_program(), target).plan
    power = load_device(target.edge).power
    assert power is not None
    assert (power.busy_w, power.idle_w) == (30.0, 9.0)
    for row in plan.strategies:
        cost = row.price
        moved = 2.265e-6 * cost.bytes_up + 1.096e-6 * cost.bytes_down
        busy = 30.0 * cost.edge_s + 9.0 * (cost.total_s - cost.edge_s)
        assert cost.edge_j == pytest.approx(busy + moved)
        assert not row.feasible or cost.edge_j >= plan.certificate.value * (1 - 1e-12)
    assert plan.certificate.proven
    assert verdict(plan).startswith("Energy of the edge: ")
    found = plan_json(plan)["certificate"]
    assert (found["minimised"], found["value_j"]) == ("energy", plan.certificate.value)


def test_least_compute_in_the_cloud_is_told_beside_the_others() -> None:
    target = Target("jetson-agx-orin", "a100", LINK, minimise="cloud-time", deadline="1ms")
    plan = plan_program(looping_program(), target).plan
    rows = {row.name: row.price for row in plan.strategies}
    said = verdict(plan)
    assert said.startswith("Compute in the cloud: ")
    assert f"all-cloud takes {rows['all-cloud'].cloud_s * 1e3:.3g} ms" in said


@pytest.mark.parametrize(
    ("cloud_s", "said"),
    [(0.003, "so a GPU carries 3 robots at most"), (0.01, "so a GPU carries 1 robot at most")],
)
def test_how_many_robots_a_gpu_carries(cloud_s: float, said: str) -> None:
    target = Target("jetson-agx-orin", "a100", LINK, minimise="cloud-time")
    plan = plan_program(looping_program(), target).plan
    assert "carries" not in verdict(plan)  # nothing is in the cloud
    taken = Price(
        edge_s=0.01 - cloud_s,
        cloud_s=cloud_s,
        up_s=0.0,
        down_s=0.0,
        hop_s=0.0,
        bytes_up=0,
        bytes_down=0,
        crossings=0,
        hops=0,
        edge_weight_bytes=0,
        cloud_weight_bytes=0,
    )
    plan = replace(plan, variants=(replace(plan.variants[0], price=taken),))
    assert f"a control step of 10 ms, {said}; all-edge takes 0 ms" in verdict(plan)


def test_a_profile_that_does_not_say_what_it_draws_is_named() -> None:
    target = Target("rtx-4090", "a100", LINK, minimise="energy")
    with pytest.raises(InputError, match=r"rtx-4090: its profile does not say what it draws"):
        plan_program(looping_program(), target)


def test_profiles_with_reserve_or_power_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    text = (Path(str(files("vlacut"))) / "hardware/profiles/jetson-agx-orin.toml").read_text()
    path = tmp_path / "mine.toml"
    for old, new, why in (
        ("reserve_bytes = 4e9", "reserve_bytes = 64e9", "reserve_bytes"),
        ("idle_w = 9.0", "idle_w = 20.0", r"idle_w \(20\) must be from 0 to busy_w \(15\)"),
        ("50W = 50.0", "51W = 50.0", "no mode '51W'; there are MAXN, 50W"),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(HardwareError, match=why):
            load_profile(str(path))
