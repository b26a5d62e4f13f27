"""Measured costs: what profiling a bundle writes, and what a plan makes of it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from support.programs import looping_program, random_program

from vlacut.bundle.costs import MeasuredCosts, MeasuredPart, read_costs, write_costs
from vlacut.bundle.reading import open_bundle
from vlacut.compiler.planning import plan_program
from vlacut.compiler.target import Target
from vlacut.errors import InputError
from vlacut.hardware import Side
from vlacut.ir.annotation import MEASURED, SECONDS
from vlacut.ir.graphs import operators
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program
from vlacut.measurement.profiling import profile_bundle

EDGE, CLOUD = "jetson-agx-orin", "a100"
SIDES = (Side.EDGE, Side.CLOUD)


@pytest.fixture(scope="session")
def measured(split_bundle: Path) -> MeasuredCosts:
    return profile_bundle(open_bundle(split_bundle), SIDES, 3)


def _annotated(costs: Path | None = None) -> Program:
    program = looping_program()
    devices = f"edge={EDGE} cloud={CLOUD}"
    text = f"simplify,annotate-structure,annotate-cost{{{devices}}}"
    if costs is not None:
        text += f",measured-cost{{costs={costs} {devices}}}"
    parse_pipeline(text).run(program)
    return program


def _seconds(program: Program, side: Side) -> dict[str, float]:
    return {
        f"{phase.name}/{node.name}": getattr(SECONDS.get(node), side.value)
        for phase in program.phases
        for node in operators(phase.model.graph)
    }


def test_every_part_is_measured_where_it_runs(split_bundle: Path, measured: MeasuredCosts) -> None:
    plan = open_bundle(split_bundle).plan
    assert {part.name for part in measured.parts} == {part.name for part in plan.parts}
    for part in measured.parts:
        assert part.side is plan.part[part.name].side
        assert part.device == (EDGE if part.side is Side.EDGE else CLOUD)
        assert part.turns == 3
        assert 0 < part.low_s <= part.seconds <= part.high_s
    only = profile_bundle(open_bundle(split_bundle), (Side.CLOUD,), 3)
    assert {part.side for part in only.parts} == {Side.CLOUD}


def test_costs_read_back_as_written(tmp_path: Path, measured: MeasuredCosts) -> None:
    write_costs(tmp_path / "costs.json", measured)
    assert read_costs(tmp_path / "costs.json") == measured


def test_operators_of_a_part_add_up_to_what_was_measured(
    tmp_path: Path, measured: MeasuredCosts
) -> None:
    parts = tuple(_set(part, (1 + index) * 1e-3) for index, part in enumerate(measured.parts))
    write_costs(tmp_path / "costs.json", dataclasses.replace(measured, parts=parts))
    program = _annotated(tmp_path / "costs.json")
    before = {side: _seconds(_annotated(), side) for side in SIDES}
    for side in SIDES:
        after = _seconds(program, side)
        here = {
            f"{phase.name}/{node.name}"
            for phase in program.phases
            for node in operators(phase.model.graph)
            if side in (MEASURED.find(node) or ())
        }
        assert here
        assert here != set(after)
        expected = sum(part.seconds for part in parts if part.side is side)
        total = math.fsum(after[name] for name in here)
        assert math.isclose(total, expected)
        ratio = expected / sum(before[side][name] for name in here)
        for name in set(after) - here:
            assert math.isclose(after[name], before[side][name] * ratio)


def _set(part: MeasuredPart, seconds: float) -> MeasuredPart:
    return dataclasses.replace(part, seconds=seconds, low_s=seconds, high_s=seconds)


def test_a_plan_prefers_what_was_measured(tmp_path: Path, measured: MeasuredCosts) -> None:
    """With the cloud's parts ten thousand times slower, nothing is left in the cloud."""
    slow = tuple(
        _set(part, part.predicted_s * (1e4 if part.side is Side.CLOUD else 1))
        for part in measured.parts
        if part.predicted_s
    )
    write_costs(tmp_path / "slow.json", dataclasses.replace(measured, parts=slow))
    link = "10GB/s,0us"
    modelled = plan_program(looping_program(), Target(EDGE, CLOUD, link))
    found = plan_program(
        looping_program(), Target(EDGE, CLOUD, link, costs=(str(tmp_path / "slow.json"),))
    )
    assert {part.side for part in modelled.plan.parts} != {Side.EDGE}
    assert {part.side for part in found.plan.parts} == {Side.EDGE}
    assert "measured:" in found.measured
    assert modelled.measured == ""


def test_costs_of_another_model_or_device_are_refused(
    tmp_path: Path, measured: MeasuredCosts
) -> None:
    file = tmp_path / "costs.json"
    write_costs(file, measured)
    costs = (str(file),)
    with pytest.raises(InputError, match=r"is no part of this model"):
        plan_program(random_program(1), Target(EDGE, CLOUD, "1GB/s", costs=costs))
    with pytest.raises(InputError, match=rf"measured on {EDGE}, and the edge is jetson-agx-thor"):
        plan_program(looping_program(), Target("jetson-agx-thor", CLOUD, "1GB/s", costs=costs))
    stale = [dataclasses.replace(part, digest="0" * 64) for part in measured.parts]
    write_costs(file, dataclasses.replace(measured, parts=tuple(stale)))
    with pytest.raises(InputError, match=rf"part {stale[0].name} is no part of this model"):
        plan_program(looping_program(), Target(EDGE, CLOUD, "1GB/s", costs=costs))


def test_a_costs_file_that_is_none_is_refused_by_entry(
    tmp_path: Path, measured: MeasuredCosts
) -> None:
    file = tmp_path / "costs.json"
    with pytest.raises(InputError, match="cannot be read"):
        read_costs(file)
    file.write_text("costs")
    with pytest.raises(InputError, match="is not JSON"):
        read_costs(file)
    file.write_text("{}")
    with pytest.raises(InputError, match="no costs of format 1"):
        read_costs(file)
    write_costs(file, measured)
    data = json.loads(file.read_text())
    for entry, value, wrong in (
        ("seconds", "fast", r"parts\[0\]\.seconds: must be float"),
        ("seconds", -1.0, "seconds must be above 0"),
        ("side", "moon", "must be one of edge, cloud"),
    ):
        altered = json.loads(json.dumps(data))
        altered["parts"][0][entry] = value
        file.write_text(json.dumps(altered))
        with pytest.raises(InputError, match=wrong):
            read_costs(file)
