"""Codecs chosen with the cut: brute force, what runs is what is priced, and the action's error."""

from __future__ import annotations

import itertools
import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.coding import there_and_back
from support.cutting import LINK, Walk, plan_of, sides_of, write_cuts
from support.deployments import DIGEST, OrtEngine, served
from support.onnx_text import write
from support.programs import cut_at_random, looping_program, observation, random_program
from support.random_graphs import all_cuts, in_turn, random_graph, random_link
from support.zoo import traced

from vlacut import registry
from vlacut.bundle.reading import open_bundle
from vlacut.compiler.driver import compile_program
from vlacut.compiler.planning import plan_program
from vlacut.compiler.target import Target
from vlacut.compiler.target_pipeline import pipeline_for
from vlacut.errors import BundleError, InfeasibleError, InputError, WireError
from vlacut.frontends.load import load_program
from vlacut.hardware import Link, Power, Side
from vlacut.ir.annotation import CUTS
from vlacut.ir.dataflow import Dataflow, cuts_of
from vlacut.ir.program import Program
from vlacut.plans.instructions import Transfer, flatten
from vlacut.plans.plan import Plan
from vlacut.pricing.coding import Choice, Offer, cheapest, coded, coded_crossings, joules
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.cut import make_cut
from vlacut.pricing.price import price
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.local import run_both
from vlacut.runtime.verification import verify_bundle
from vlacut.runtime.wire.layout import Layout, Room
from vlacut.split.gauge import gauging
from vlacut.split.observations import OBSERVATIONS, example_observation
from vlacut.split.parts import Split, split
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec, Coding, parse_codecs
from vlacut.tensor.numerics import relative_difference, varied
from vlacut_passes.partitioning.limits import Limits, Quantity
from vlacut_passes.partitioning.solver.search import optimal_cut

LOSSY = tuple(codec for codec in parse_codecs("all") if not codec.varies)
SLOW = "100kB/s,5ms"


def random_offers(numbers: np.random.Generator, graph: CostGraph) -> dict[str, Offer]:
    def codings(nbytes: int) -> tuple[Coding, ...]:
        return tuple(
            Coding(codec, int(numbers.integers(0, nbytes + 1)), *numbers.random(2).tolist())
            for codec in (Codec.FP16, Codec.INT8)
        )

    names = {flow.name: flow.nbytes for flow in graph.flows if numbers.random() < 0.7}
    return {name: Offer(codings(nbytes), codings(nbytes)) for name, nbytes in names.items()}


def coded_totals(graph: CostGraph, offers: dict[str, Offer], link: Link) -> list[float]:
    """The lowest price of every cut, over all codecs of what crosses in it."""
    found = []
    for row in all_cuts(graph):
        sides = [Side.CLOUD if one else Side.EDGE for one in row]
        fixed = price(replace(graph, flows=()), sides, link).total_s
        moved = 0.0
        for flow in graph.flows:
            if any(sides[one] is not sides[flow.producer] for one in flow.consumers):
                up = sides[flow.producer] is Side.EDGE
                offer = offers.get(flow.name, Offer((), ()))
                rate, allowed = (link.up, offer.up) if up else (link.down, offer.down)
                each = [flow.nbytes / rate]
                each += [one.nbytes / rate + one.edge_s + one.cloud_s for one in allowed]
                moved += flow.count * min(each)
        found.append(fixed + moved)
    return found


def test_cut_and_codecs_together_are_brute_forces() -> None:
    used = 0
    for seed in range(150):
        numbers = np.random.default_rng(seed)
        graph = in_turn(random_graph(numbers))
        link, offers = random_link(numbers), random_offers(numbers, graph)
        chosen = cheapest(graph, offers, link)
        found = optimal_cut(chosen, link)
        best = min(coded_totals(graph, offers, link))
        assert found.value == pytest.approx(best, rel=1e-11, abs=1e-12), seed
        assert found.gap <= 1e-9
        used += bool(coded_crossings(chosen, found.sides))
    assert used > 20


def test_no_choice_of_codecs_is_cheaper() -> None:
    """All combinations on what crosses, priced one by one; and the same price over other links."""
    for seed in range(60):
        numbers = np.random.default_rng(seed)
        graph, link = random_graph(numbers, 4), random_link(numbers)
        graph = in_turn(graph)
        offers = random_offers(numbers, graph)
        cuts = all_cuts(graph)
        sides = [Side.CLOUD if one else Side.EDGE for one in cuts[numbers.integers(len(cuts))]]
        best = price(cheapest(graph, offers, link), sides, link)
        names = list(offers)
        forms = [[Choice(*pair) for pair in _pairs(offers[name])] for name in names]
        for choices in itertools.islice(itertools.product(*forms), 300):
            other = price(coded(graph, dict(zip(names, choices, strict=True))), sides, link)
            assert best.total_s <= other.total_s * (1 + 1e-12), seed
        slower = replace(link, up=link.up / 3, down=link.down / 2)
        again = price(cheapest(graph, offers, link), sides, slower)
        assert best.over(slower) == pytest.approx(again.total_s, rel=1e-12)


@pytest.mark.slow
def test_the_least_energy_is_brute_forces_over_cuts_and_codecs() -> None:
    """Its power makes a second of the edge's processor, and a byte, worth more than waiting."""
    power = Power(10.0, 2.0, 0.5, 0.2, "a test")
    apart = 0
    for seed in range(100):
        numbers = np.random.default_rng(seed)
        graph, link = random_graph(numbers, 3), random_link(numbers)
        graph = in_turn(replace(graph, power=power))
        offers = random_offers(numbers, graph)
        names = list(offers)
        forms = [[Choice(*pair) for pair in _pairs(offers[name])] for name in names]
        if math.prod(map(len, forms)) > 100:
            continue
        spent = [
            price(coded(graph, dict(zip(names, choices, strict=True))), sides, link).edge_j
            for choices in itertools.product(*forms)
            for sides in (
                [Side.CLOUD if one else Side.EDGE for one in row] for row in all_cuts(graph)
            )
        ]
        limits = Limits(Quantity.ENERGY)
        found = optimal_cut(cheapest(graph, offers, link, worth=joules(power)), link, limits)
        assert found.value == pytest.approx(min(spent), rel=1e-11, abs=1e-12), seed
        fastest = optimal_cut(cheapest(graph, offers, link), link, limits)
        apart += fastest.value > found.value * 1.01
    assert apart > 5


def test_partition_takes_the_codecs_of_what_it_minimises() -> None:
    """And says in its certificate that these are all it searched."""
    found = {}
    for goal in ("latency", "energy"):
        asked = replace(target(codecs="all"), link="50MB/s,5ms", minimise=goal)
        plan = plan_program(looping_program(width=1024), asked).plan
        assert plan.certificate.method.endswith(", every tensor in its cheapest form")
        found[goal] = plan.variants[0].price
    assert found["latency"].total_s < found["energy"].total_s
    assert found["energy"].edge_j < found["latency"].edge_j


def _pairs(offer: Offer) -> list[tuple[Coding | None, Coding | None]]:
    return list(itertools.product((None, *offer.up), (None, *offer.down)))


def coded_at_random(seed: int) -> tuple[Program, Dataflow, Split, Plan, dict[str, Codec]]:
    """A random cut of a random program, with a random codec on every tensor that has one."""
    numbers = np.random.default_rng(seed)
    program = random_program(seed, phases=1 + seed % 4)
    dataflow = cut_at_random(program, seed)
    names = [*LOSSY, Codec.NONE]
    codecs = {key: names[int(numbers.integers(len(names)))] for key in dataflow.specs}
    codings = {
        key: Coding(codec, there_and_back_bytes(codec, dataflow.specs[key]), 0.25, 0.5)
        for key, codec in codecs.items()
        if codec is not Codec.NONE
    }
    choices = {key: Choice(one, one) for key, one in codings.items()}
    graph = coded(dataflow.cost_graph(), choices)
    cut = make_cut(graph, sides_of(dataflow), LINK, name="coded", origin="test")
    CUTS.put(program, replace(cuts_of(dataflow), chosen=replace(cut, crossings=())))
    made = split(dataflow)
    plan = plan_of(dataflow, made)
    return program, dataflow, made, plan, codecs


def there_and_back_bytes(codec: Codec, spec: TensorSpec) -> int:
    """By the specification: 8 floats in a row."""
    assert spec.shape == (1, 8)
    return {Codec.FP16: 16, Codec.BF16: 16, Codec.INT8: 12, Codec.INT4: 6}[codec]


class CodedWalk(Walk):
    """Both sides in one place, what crosses coded and decoded."""

    def __init__(self, made: Split, observed: dict[str, np.ndarray], codecs: object) -> None:
        self.codecs = codecs
        super().__init__(made, observed)

    def do(self, step: object) -> None:
        super().do(step)
        if isinstance(step, Transfer):
            for key in step.tensors:
                codec = self.codecs[key]
                if codec is not Codec.NONE:
                    held = self.held[step.source.other]
                    held[key] = there_and_back(codec, held[key])


def engines_of(made: Split) -> dict[str, OrtEngine]:
    pairs = zip(made.parts, made.models, strict=True)
    return {part.name: OrtEngine(model, part.outputs) for part, model in pairs}


@pytest.mark.parametrize("seed", range(16))
def test_coded_tensors_over_the_wire(seed: int) -> None:
    program, flow, made, plan, codecs = coded_at_random(seed)
    observed = observation(program, seed)
    walk = CodedWalk(made, observed, codecs)
    expected = {name: walk.held[Side.EDGE][key] for name, key in plan.outputs.items()}
    action = run_both(plan, engines_of(made), 0, observed)
    for name, array in expected.items():
        np.testing.assert_array_equal(action[name], array)
    with gauging(flow, LINK) as gauge:
        sides = sides_of(flow)
        whole = plan_of(flow, split(write_cuts(flow, sides)))
        errors = []
        for number in range(OBSERVATIONS):
            varied_one = varied(program.inputs, example_observation(program), number)
            exact = run_both(whole, engines_of(made), 0, varied_one)
            found = run_both(plan, engines_of(made), 0, varied_one)
            errors.append(relative_difference(found, exact))
        assert gauge.error(sides, codecs) == pytest.approx(max(errors), rel=0.01)
        assert gauge.error(sides, {}) == 0.0


def test_what_is_sent_is_what_is_priced_and_timed() -> None:
    checked = 0
    for seed in range(8):
        program, _, made, plan, _ = coded_at_random(seed)
        engines, counted = engines_of(made), plan.variants[0].price
        if not plan.crosses[0]:
            continue
        with (
            served(plan, engines) as server,
            EdgeSession(plan, DIGEST, engines, server.address) as policy,
        ):
            for _ in range(2):
                policy.step(observation(program))
            report = policy.last
        assert (report.bytes_up, report.bytes_down) == (counted.bytes_up, counted.bytes_down)
        sent = [step for step in flatten(made.schedule) if isinstance(step, Transfer)]
        if any(step.codecs for step in sent):
            assert report.edge_codec_s > 0
            checked += 1
            if any(step.codecs and step.source is Side.CLOUD for step in sent):
                assert report.cloud_codec_s > 0
        assert 0 < report.network_s < report.latency_s
    assert checked > 2


def test_room_is_what_the_layout_says() -> None:
    """Received in coded form, decoded, and to send: what a robot's session holds at most."""
    for seed in range(20):
        _, _, made, plan, _ = coded_at_random(seed)
        for side in Side:
            layout, other = Layout(plan, side), Layout(plan, side.other)
            steps = enumerate(flatten(made.schedule))
            sent = [(at, step) for at, step in steps if isinstance(step, Transfer)]
            received = [_held(layout, at) for at, step in sent if step.source is not side]
            written = [_written(layout, other, at, step) for at, step in sent]
            assert layout.nbytes == sum(received) + sum(written), seed


def _rooms(layout: Layout, position: int) -> dict[int, Room]:
    """The rooms for a transfer, by trip."""
    found = {}
    for trip in range(8):
        with suppress(WireError):
            found[trip] = layout.room(0, position, trip)[1]
    return found


def _held(layout: Layout, position: int) -> int:
    rooms = _rooms(layout, position).values()
    decoded = [decoder[1].nbytes for room in rooms for decoder in room.decoders if decoder]
    return sum(decoded) + sum(tensor.nbytes for room in rooms for tensor in room.tensors)


def _written(layout: Layout, other: Layout, position: int, step: Transfer) -> int:
    array = np.zeros((1, 8), np.float32)
    buffers = {
        id(made): made
        for trip in _rooms(other, position)
        for made in layout.encoded((0, position, trip), step.coded, [array] * len(step.tensors))
        if made is not array
    }
    return sum(made.nbytes for made in buffers.values())


def test_what_waits_to_be_sent_is_not_overwritten() -> None:
    """Neither by another trip of the step, nor by the next step after one that was given up."""
    plans = (coded_at_random(seed)[3] for seed in range(20))
    plan = next(plan for plan in plans if any(map(any, coded_steps(plan))))
    coded, array = [(plan.tensors[0].name, Codec.INT8)], np.ones((1, 8), np.float32)
    layout = Layout(plan, Side.EDGE)
    (first,) = layout.encoded((0, 0, 0), coded, [array])
    (second,) = layout.encoded((0, 0, 1), coded, [2 * array])
    assert layout.encoded((0, 0, 0), coded, [array])[0] is first
    kept = first.copy()
    layout.leave_written()
    assert layout.encoded((0, 0, 0), coded, [3 * array])[0] is not first
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second)


def test_a_plan_whose_codec_cannot_write_its_tensor_is_illegal() -> None:
    plans = (coded_at_random(seed)[3] for seed in range(20))
    plan = next(plan for plan in plans if any(map(any, coded_steps(plan))))
    ints = tuple(replace(spec, dtype="int32") for spec in plan.tensors)
    with pytest.raises(BundleError, match=r"(fp16|bf16|int8|int4) cannot write .*: int32"):
        replace(plan, tensors=ints)


def coded_steps(plan: Plan) -> list[tuple[bool, ...]]:
    """What is coded in the transfers of the first variant."""
    sent = [step for step in flatten(plan.variants[0].schedule) if isinstance(step, Transfer)]
    return [tuple(codec is not Codec.NONE for _, codec in step.coded) for step in sent]


def target(**asked: object) -> Target:
    """Everything in the cloud over a slow link: three crossings, one of them in a loop."""
    return Target("jetson-agx-orin", "a100", SLOW, pin=("*=cloud",), **asked)  # type: ignore[arg-type]


def test_codecs_are_off_unless_asked_for() -> None:
    planned = plan_program(looping_program(), target())
    assert planned.plan.variants[0].coded == ()
    assert "annotate-codecs" not in planned.pipeline


def test_codecs_save_time_and_say_what_they_do() -> None:
    program = looping_program()
    raw = plan_program(program, target()).plan.variants[0].price
    found = plan_program(looping_program(), target(codecs="all")).plan
    chosen = found.variants[0]
    assert {crossing.codec for crossing in chosen.coded} == {Codec.INT4}
    assert chosen.price.total_s < raw.total_s
    assert chosen.price.bytes_up < raw.bytes_up / 6
    assert sum(one.edge_s + one.cloud_s for one in chosen.coded) == chosen.price.codec_s
    error = chosen.action_error
    assert error.measured is not None
    assert error.allowed is not None
    assert 0.01 < error.measured < error.allowed < 1.4 * error.measured
    assert error.observations == OBSERVATIONS
    assert max(one.alone or 0.0 for one in chosen.coded) > 0


@pytest.mark.parametrize("most", [0.1, 0.01, 1e-3, 1e-4, 0.0])
def test_the_error_of_the_action_is_kept(most: float) -> None:
    found = plan_program(looping_program(), target(codecs="all", max_action_error=most)).plan
    error = found.variants[0].action_error
    assert error.measured is not None
    assert error.measured <= most
    assert bool(found.variants[0].coded) == (most > 1e-5)
    if found.variants[0].coded:
        assert error.allowed == most


def test_a_tighter_limit_never_costs_less() -> None:
    spent = [
        plan_program(looping_program(), target(codecs="all", max_action_error=most))
        .plan.variants[0]
        .price.total_s
        for most in (1.0, 0.01, 1e-7)
    ]
    assert spent == sorted(spent)


def test_all_cloud_is_shown_with_codecs_too() -> None:
    found = plan_program(looping_program(), target(codecs="int8"))
    rows = {row.name: row for row in found.plan.strategies}
    assert rows["all-cloud-coded"].price.total_s < rows["all-cloud"].price.total_s
    assert rows["optimal"].price.total_s <= rows["all-cloud-coded"].price.total_s
    assert "all-cloud-coded" in [one.other for one in found.plan.standings]
    text = pipeline_for(target(codecs="int8")).removesuffix("}") + " strategy=all-cloud-coded}"
    chosen = plan_program(looping_program(), target(codecs="int8"), text).plan.variants[0]
    assert {crossing.codec for crossing in chosen.coded} == {Codec.INT8}


def shapes_alone(program: Program) -> Program:
    for phase in program.phases:
        for value in phase.model.graph.initializers.values():
            value.const_value = None
    return program


def test_a_limit_is_kept_by_a_program_that_has_nothing_to_code(tmp_path: Path) -> None:
    file = write(tmp_path / "m.onnx", "g (int64[3] x) => (int64[3] y) { y = Neg(x) }")
    target = Target("jetson-agx-orin", "a100", "1MB/s,1ms", codecs="all", max_action_error=0.01)
    plan_program(load_program(str(file)), target)


def test_what_cannot_be_run_is_not_measured_and_says_so() -> None:
    planned = plan_program(shapes_alone(looping_program()), target(codecs="all"))
    error = planned.plan.variants[0].action_error
    assert error.measured is None
    assert any("is not measured: weight" in line for line in planned.warnings)
    with pytest.raises(InputError, match=r"cannot be measured here: weight .* has no content"):
        plan_program(shapes_alone(looping_program()), target(codecs="all", max_action_error=0.01))
    with pytest.raises(InputError, match="add --codecs"):
        plan_program(looping_program(), target(max_action_error=0.01))


@pytest.fixture(scope="module")
def coded_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("coded") / "b"
    asked = target(codecs="all", max_action_error=0.05, pool="portfolio:100MB")
    asked = replace(asked, pin=(), link="5MB/s")
    compile_program(looping_program(width=1024, trips=10), asked, path)
    return path


def test_verify_holds_codecs_to_the_stated_error(coded_bundle: Path) -> None:
    bundle = open_bundle(coded_bundle)
    results = {result.name: result for result in verify_bundle(bundle)}
    assert all(result.passed for result in results.values())
    variants = {variant.name: variant for variant in bundle.plan.variants}
    coded_ones = [variant for variant in variants.values() if variant.coded]
    assert coded_ones
    for variant in coded_ones:
        assert variant.action_error.measured is not None
        assert variant.action_error.measured <= 0.05
        assert 0 < results[variant.name].max_abs_error <= results[variant.name].allowed
    for variant in variants.values():
        assert variant.coded or results[variant.name].max_abs_error == 0
    worse = replace(coded_ones[0], action_error=replace(coded_ones[0].action_error, allowed=1e-9))
    plan = replace(bundle.plan, variants=(worse,))
    manifest = replace(bundle.manifest, plan=plan)
    assert not verify_bundle(replace(bundle, manifest=manifest))[2].passed


def test_every_variant_has_the_codecs_that_are_best_for_it(coded_bundle: Path) -> None:
    """Slower links have smaller tensors; and the price of each over a link is the runtime's."""
    plan = open_bundle(coded_bundle).plan
    assert len(plan.variants) > 2
    for variant in plan.variants:
        sent = [step for step in flatten(variant.schedule) if isinstance(step, Transfer)]
        named = {key: codec for step in sent for key, codec in step.coded if codec != Codec.NONE}
        assert named == {crossing.tensor: crossing.codec for crossing in variant.coded}
    moved = [variant.price.bytes_up + variant.price.bytes_down for variant in plan.variants[1:]]
    assert moved == sorted(moved, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names("models"))
def test_codecs_of_the_zoo_keep_the_error(name: str, tmp_path: Path) -> None:
    """Cut, coded and verified over the real wire, variant by variant."""
    program = traced(name)
    asked = Target(
        *("jetson-agx-orin", "a100", "1MB/s,5ms"),
        pin=("*=cloud",),
        codecs="all",
        max_action_error=0.01,
        pool="portfolio:100MB",
    )
    _, bundle = compile_program(program, asked, tmp_path / "b")
    assert any(variant.coded for variant in bundle.plan.variants)
    for result in verify_bundle(bundle):
        assert result.passed, result


def test_compiling_with_codecs_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    asked = target(codecs="all", max_action_error=0.05)
    digests = [
        compile_program(looping_program(), asked, tmp_path / name)[1].digest for name in "ab"
    ]
    assert digests[0] == digests[1]


def test_a_deadline_that_only_forbidden_codecs_meet_says_so() -> None:
    fast = plan_program(looping_program(), target(codecs="all")).plan.variants[0].price.total_s
    deadline = f"{fast * 1e3 + 0.5:.3f}ms"
    asked = target(codecs="all", max_action_error=1e-7, deadline=deadline)
    with pytest.raises(InfeasibleError, match="the error of the action on 4 observations leaves"):
        plan_program(looping_program(), asked)


def test_what_is_no_number_uncut_is_not_measured() -> None:
    """Variations after one whose action is not finite are not measured either."""
    program = looping_program()
    dataflow = cut_at_random(program, 0)
    with gauging(dataflow, LINK) as gauge:
        assert gauge.observations == OBSERVATIONS
    weight = program.phases[0].model.graph.initializers["encoder.stem"]
    broken = np.full((64, 64), np.nan, np.float32)
    weight.const_value = ir.tensor(broken, name="encoder.stem")
    planned = plan_program(program, target(codecs="int8"))
    assert any("holds a NaN or an infinity" in line for line in planned.warnings)
