"""The way a loop runs is chosen by its own price, within the bound on age."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from support.flows import flow_program
from support.programs import random_stateful
from support.token_loops import token_program

from vlacut.cli.show.ways import show_ways, ways_json
from vlacut.compiler.planning import Planned, plan_program
from vlacut.compiler.sweep import parse_axis, sweep
from vlacut.compiler.target import Target
from vlacut.compiler.way_options import AUTO
from vlacut.errors import InputError
from vlacut.ir.program import Program
from vlacut.plans.ways import PLAIN, Way
from vlacut_passes.quantise import Quantise
from vlacut_passes.simplify import Simplify

ON_EDGE = Target("jetson-agx-orin", "a100", "1GB/s,0.1ms", pin=("*=edge",))
CHOOSES = replace(ON_EDGE, in_flight=AUTO)


def wide() -> Program:
    """So wide that reading weights is what takes time; 2 and 4 requests have fewer passes."""
    return token_program(5, 3, layers=1, width=256)


@pytest.fixture(scope="module")
def chosen() -> Planned:
    return plan_program(wide(), CHOOSES)


def taken(planned: Planned) -> Way:
    (found,) = [one for one in planned.ways if one.taken]
    assert planned.plan.warming == found.warming
    assert planned.plan.variants[0].price.total_s == pytest.approx(found.step_s)
    assert planned.plan.age_s == pytest.approx(found.age_s)
    return found


def test_the_quickest_step_is_taken_and_all_ways_are_shown(chosen: Planned) -> None:
    assert [one.name for one in chosen.ways] == [PLAIN, "2 in flight", "4 in flight"]
    assert [one.passes for one in chosen.ways] == [3, 2, 1]
    assert taken(chosen).in_flight == 4
    fixed = plan_program(wide(), replace(ON_EDGE, in_flight=2))
    assert fixed.plan.variants[0].price.total_s == pytest.approx(chosen.ways[1].step_s)
    assert [row.name for row in fixed.ways] == [PLAIN, "2 in flight"]
    assert taken(fixed).in_flight == 2


def test_ways_of_an_own_pipeline_are_priced_by_it() -> None:
    """Trip by trip is what that pipeline does without the way."""
    two = replace(ON_EDGE, in_flight=2)
    plain = plan_program(wide(), two)
    rounded = "simplify,quantise{weights=int8 shared=true}"
    own = plain.pipeline.replace("simplify", rounded, 1)
    planned = plan_program(wide(), two, own)
    assert [row.name for row in planned.ways] == [PLAIN, "2 in flight"]
    without = ",".join(
        one for one in own.split(",") if not one.startswith("in-flight") and one != "pack"
    )
    alone = plan_program(wide(), ON_EDGE, without).plan.variants[0].price.total_s
    assert planned.ways[0].step_s == pytest.approx(alone)
    assert planned.ways[0].step_s != pytest.approx(plain.ways[0].step_s, rel=0.1)
    with pytest.raises(InputError, match="the pipeline has no partition"):
        plan_program(wide(), two, "simplify,in-flight{requests=2},pack")


def test_ways_are_priced_without_gptq_and_a_program_is_simplified_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []

    def noting(made: type[Quantise] | type[Simplify]) -> None:
        run = made.run

        def noted(self: Any, program: Program) -> None:
            ran.append(getattr(self, "method", "simplify"))
            run(self, program)

        monkeypatch.setattr(made, "run", noted)

    noting(Quantise)
    noting(Simplify)
    asked = replace(ON_EDGE, in_flight=2, quantise="int4", rounding_error=0.5)
    planned = plan_program(wide(), asked)
    assert ran == ["simplify", "rtn", "gptq", "simplify"]  # the last one is before `pack`
    assert taken(planned).name == "2 in flight"
    assert planned.ways[0].name == PLAIN


def test_a_bound_on_age_takes_fewer_requests(chosen: Planned) -> None:
    rows = chosen.ways
    for allowed in rows[:2]:
        bound = f"{allowed.age_s * 1.001 * 1e6}us"
        planned = plan_program(wide(), replace(CHOOSES, max_age=bound))
        assert taken(planned).name == allowed.name
        assert planned.plan.age_s <= allowed.age_s * 1.001
        late = [one.name for one in planned.ways if one.why_not]
        assert late == [one.name for one in rows if one.age_s > allowed.age_s]
    with pytest.raises(InputError, match=r"the youngest is .* ms old on average \(trip by trip\)"):
        plan_program(wide(), replace(CHOOSES, max_age="1us"))


def test_the_least_age_is_an_objective() -> None:
    planned = plan_program(wide(), replace(ON_EDGE, minimise="age"))
    assert taken(planned).age_s == min(one.age_s for one in planned.ways)
    assert len(planned.ways) == 3
    assert "in-flight" not in planned.pipeline


def test_a_denoise_loop_has_ways_too() -> None:
    planned = plan_program(flow_program(), CHOOSES)
    assert len(planned.ways) > 2
    assert taken(planned).step_s == min(one.step_s for one in planned.ways)


def test_a_pin_may_be_of_a_phase_that_one_way_has() -> None:
    target = replace(ON_EDGE, pin=("prefill_decode*=edge",), draft="last")
    plain, drafts = plan_program(wide(), target).ways
    assert "matches no block" in plain.why_not
    assert drafts.taken


def test_who_cannot_overlap_runs_trip_by_trip() -> None:
    program = next(one for one in map(random_stateful, range(20)) if one.state)
    planned = plan_program(program, CHOOSES)
    assert [one.name for one in planned.ways] == [PLAIN]
    assert not planned.plan.warming


def test_what_is_not_chosen_has_the_reason(
    chosen: Planned, capsys: pytest.CaptureFixture[str]
) -> None:
    deadline = f"{chosen.ways[0].step_s * 0.9e6}us"
    strict = plan_program(wide(), replace(CHOOSES, deadline=deadline))
    assert strict.ways[0].why_not.startswith("the control step: at least")
    show_ways(Console(), strict.ways)
    said = capsys.readouterr().out
    assert "* trip by trip is not allowed: the control step" in said
    assert "Taken: 4 in flight" in said
    assert [one["taken"] for one in ways_json(strict.ways)] == [False, False, True]
    for asked in (CHOOSES, replace(ON_EDGE, minimise="age")):
        with pytest.raises(InputError, match="default pipeline"):
            plan_program(wide(), asked, "simplify,annotate-structure,annotate-cost,partition")
        with pytest.raises(InputError, match="one way to run a loop"):
            sweep(wide(), asked, parse_axis("link=1MB/s..2MB/s"))
    with pytest.raises(InputError, match="write a number, or auto"):
        replace(CHOOSES, in_flight="many").check()
