"""Precisions as variants: stored once, measured, named, chosen by nobody who goes by time alone."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.commands import Vlacut
from support.cutting import plan_of
from support.deployments import OrtEngine
from support.onnx_text import write
from support.precisions import policy, slow_memory
from support.programs import cut_at_random, observation, random_program
from support.proxy import DOWN, UP, Proxy
from support.slow import quick

import vlacut
from vlacut.bundle.opened import Bundle
from vlacut.compiler.precision_list import parse_precisions
from vlacut.compiler.precisions import run_passes
from vlacut.compiler.target import Target
from vlacut.compiler.target_pipeline import pipeline_for
from vlacut.errors import InputError, unwatched
from vlacut.hardware import Side
from vlacut.ir.dataflow import trace_dataflow
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import copied
from vlacut.plans.plan import Variant
from vlacut.runtime.engines import load_engines
from vlacut.runtime.local import run_both
from vlacut.runtime.verification import verify_bundle
from vlacut.split.joining import Joiner
from vlacut.split.parts import split
from vlacut.tensor.numerics import relative_difference, varied
from vlacut_passes.quantising import four_bits
from vlacut_passes.quantising.rounding import gptq


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A policy as it is, in 16 and in 4 bits, and with one of its phases in 4 bits."""
    folder = tmp_path_factory.mktemp("precisions")
    return vlacut.compile(
        policy(folder),
        edge=slow_memory(folder),
        cloud="a100",
        link="1MB/s,20ms",
        out=folder / "policy.vlacut",
        precisions="float16,int4,denoise=int4",
        pin=("*=edge",),
    )


def test_every_precision_is_a_variant_with_its_error(bundle: Bundle) -> None:
    names = [one.name for one in bundle.plan.variants]
    assert names == ["chosen", "chosen@float16", "chosen@int4", "chosen@denoise=int4"]
    seconds = [one.price.total_s for one in bundle.plan.variants]
    assert seconds[0] == max(seconds)
    engines = load_engines(bundle, Side.EDGE)
    example = bundle.golden("observation")
    for index, variant in enumerate(bundle.plan.variants):
        stated = variant.action_error
        found = [
            relative_difference(
                run_both(bundle.plan, engines, index, observed),
                run_both(bundle.plan, engines, 0, observed),
            )
            for seed in range(stated.observations)
            for observed in [varied(bundle.plan.inputs, example, seed)]
        ]
        assert max(found, default=0.0) == pytest.approx(stated.measured, rel=1e-3)
        assert (stated.measured == 0) == (variant.precision == "")


def test_a_bundle_of_precisions_verifies(bundle: Bundle) -> None:
    results = verify_bundle(bundle)
    assert all(one.passed for one in results), results
    assert len(results) == 2 + len(bundle.plan.variants)


def test_weights_that_are_equal_are_stored_once(bundle: Bundle) -> None:
    plan = bundle.plan
    held = {one.precision: set[str]() for one in plan.variants}
    for variant in plan.variants:
        for part in plan.variant_parts(variant, Side.EDGE):
            held[variant.precision] |= set(part.weights)
    assert held["denoise=int4"] & held[""] == {"both", "see"}  # of the phase that is as it was
    assert not held["int4"] & {"both", "see", "act"}
    stored = sum(size.nbytes for name, size in bundle.manifest.files.items() if "weights/" in name)
    elements = 96 * 128 + 2 * 128 * 128
    assert stored < 4 * elements * (1 + 1 / 2 + 2 * 5 / 32) + 20_000


def test_what_precisions_have_alike_is_rounded_once_and_has_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounded: list[object] = []

    def counted(*given: object) -> object:
        rounded.append(given)
        return gptq(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(four_bits, "gptq", counted)
    target = {"edge": slow_memory(tmp_path), "cloud": "a100", "link": "1MB/s,20ms"}
    target |= {"pin": ["*=edge"], "model_check": False, "golden": False}
    stored = {}
    for asked in ("w4a16,w4a8", "w4a8"):
        rounded.clear()
        out = tmp_path / f"{asked}.vlacut"
        made = vlacut.compile(policy(tmp_path), **target, out=out, precisions=asked)
        assert len(rounded) == 3  # see, both, act
        stored[asked] = {name for name in made.manifest.files if "weights/" in name}
        held = [
            {
                weight
                for part in made.plan.variant_parts(variant, Side.EDGE)
                for weight in part.weights
                if ".int4." in weight
            }
            for variant in made.plan.variants[1:]
        ]
        assert len(held) == 1 + asked.count(",")
        assert all(one == held[0] and len(one) == 6 for one in held)
    assert stored["w4a16,w4a8"] == stored["w4a8"]


def test_a_precision_may_be_of_one_phase(bundle: Bundle) -> None:
    plan = bundle.plan
    (found,) = (one for one in plan.variants if one.precision == "denoise=int4")
    parts = {part.phase: part for part in plan.variant_parts(found, Side.EDGE)}
    own = {part.phase: part for part in plan.variant_parts(plan.variants[0], Side.EDGE)}
    assert parts["encode"] == own["encode"]  # one engine
    assert all(".int4." in name for name in parts["denoise"].weights if name != "float32.scalar[0]")


@pytest.mark.parametrize("steps", quick((60, 10_000), 60))
def test_switching_at_random_changes_no_bit(bundle: Bundle, steps: int) -> None:
    engines = load_engines(bundle, Side.EDGE)
    names = [one.name for one in bundle.plan.variants]
    seen = set[str]()
    with vlacut.connect(bundle.root, None, selector="random") as robot:
        for step in range(steps):
            observed = varied(bundle.plan.inputs, bundle.golden("observation"), step)
            action = robot.step(observed)
            index = names.index(robot.last.variant)
            alone = run_both(bundle.plan, engines, index, observed)
            assert np.array_equal(action["action"], alone["action"])
            assert robot.last.precision == bundle.plan.variants[index].precision
            seen.add(robot.last.precision)
            assert robot.last.source == "chosen"
            assert robot.last.frames == 0  # nothing is said of a switch
    assert seen == {one.precision for one in bundle.plan.variants}


def test_a_switch_of_precision_sends_nothing(tmp_path: Path) -> None:
    """Over a link: as many frames and bytes as a step of the same variant that does not switch."""
    bundle = vlacut.compile(
        policy(tmp_path),
        edge=slow_memory(tmp_path),
        cloud=slow_memory(tmp_path),
        link="1MB/s,20ms",
        out=tmp_path / "cut.vlacut",
        precisions="float16,int8,int4",
        pin=("encode*=edge", "denoise*=cloud"),
        model_check=False,
        rounding_method="rtn",
    )
    sent: dict[str, dict[bool, set[tuple[int, ...]]]] = {}
    with ExitStack() as stack:
        server = vlacut.serve(bundle.root)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        stack.callback(serving.join)
        stack.callback(server.shutdown)
        proxy = stack.enter_context(Proxy(server.address))
        address = "{}:{}".format(*proxy.address)
        robot = stack.enter_context(vlacut.connect(bundle.root, address, selector="random"))
        before = ""
        for step in range(150):
            start = dict(proxy.passed)
            robot.step(bundle.golden("observation"))
            assert robot.last.source == "chosen"
            here = robot.last.variant
            passed = (proxy.passed[way] - start[way] for way in (UP, DOWN))
            if step:  # the first one says hello
                one = sent.setdefault(here, {True: set(), False: set()})
                one[here != before].add((robot.last.frames, *passed))
            before = here
    assert len(sent) == 4
    for name, found in sent.items():
        assert len(found[False]) == 1, (name, found)
        assert found[True] == found[False], (name, found)


@pytest.mark.parametrize("selector", ["argmin", "quantile", "thresholds"])
def test_who_goes_by_time_takes_the_program_as_it_is(bundle: Bundle, selector: str) -> None:
    with vlacut.connect(bundle.root, None, selector=selector) as robot:
        for _ in range(3):
            robot.step(bundle.golden("observation"))
            assert robot.last.precision == ""


@pytest.mark.parametrize("seed", range(8))
def test_a_joined_precision_runs_as_it_does_alone(seed: int) -> None:
    """Of random programs, whose every tensor is of another type in float16."""
    program = random_program(seed)
    half = copied(program)
    parse_pipeline("convert-types{source=weights target=float16 keep=unsafe}").run(half)
    own, other = cut_at_random(program, seed), cut_at_random(half, seed + 100)
    alone = plan_of(other, split(other))
    engines = {
        part.name: OrtEngine(model, part.outputs)
        for part, model in zip(split(other).parts, split(other).models, strict=True)
    }
    observed = observation(program)
    expected = run_both(alone, engines, 0, observed)
    plan = plan_of(own, split(own))
    joiner = Joiner(split(own))
    fixed = [*(spec.name for spec in program.inputs), *plan.outputs.values()]
    joined = joiner.add("float16", split(other), fixed)
    both = replace(
        plan,
        tensors=joiner.split.tensors,
        parts=joiner.split.parts,
        variants=(
            plan.variants[0],
            Variant("other", joined.schedules[0], plan.variants[0].price, precision="float16"),
        ),
    )
    made = {
        part.name: OrtEngine(model, part.outputs)
        for part, model in zip(joiner.split.parts, joiner.split.models, strict=True)
    }
    assert both.exact.variants == plan.variants
    found = run_both(both, made, 1, observed)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_what_is_alike_is_joined_once() -> None:
    program = random_program(3)
    dataflow = cut_at_random(program, 3)
    made = split(dataflow)
    joiner = Joiner(made)
    joined = joiner.add("same", split(trace_dataflow(program)), [])
    assert joiner.split.parts == made.parts
    assert joined.schedules == made.schedules


def test_what_is_nowhere_faster_is_left_out(vlacut: Vlacut, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    body = "f (float[1, 64] x) => (float[1, 64] y) { y = MatMul(x, w) }"
    model = write(tmp_path / "f.onnx", body, {"w": weights})
    target = ("--cloud", "a100", "--link", "1MB/s,20ms", "--precisions", "int4")
    status, out, err = vlacut("plan", model, "--edge", "jetson-agx-orin", *target)
    assert status == 0
    assert "chosen@int4 is left out: it is nowhere faster than chosen, which errs no more" in err
    assert "Precisions" not in out
    status, out, err = vlacut("plan", model, "--edge", slow_memory(tmp_path), *target)
    assert status == 0
    assert "Precisions, per control step" in out
    assert "chosen@int4" in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "int3",
            "'int3' is no precision; write int8, float8e4m3fn, int4, w8a8, w4a16, w4a8, float16",
        ),
        ("int4,int4", "int4 is there twice"),
        ("int8+int4", "'int8' is no precision"),
        ("=int4", "'=int4' is no precision"),
        ("encode=float16", "'encode=float16' is no precision"),
    ],
)
def test_a_list_that_does_not_parse_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match="--precisions") as refused:
        parse_precisions(text)
    assert said in str(refused.value)


def test_a_name_says_how_many_inputs_share_a_scale() -> None:
    made = parse_precisions("int4g128,decode=int4g64")
    assert list(made) == ["int4g128", "decode=int4g64"]
    assert "weights=int4" in made["int4g128"]
    assert "group=128" in made["int4g128"]
    assert "group=64" in made["decode=int4g64"]


def test_the_names_of_the_literature_are_known() -> None:
    """`float` is the program as it is; a name says which bits weights and activations have."""
    made = parse_precisions("float,w8a8,w4a16,w4a8,w4a16g128")
    assert {name: text.replace(" phases=}", "}") for name, text in made.items()} == {
        "w8a8": "quantise{weights=int8}",
        "w4a16": "quantise{weights=int4 activations=float}",
        "w4a8": "quantise{weights=int4}",
        "w4a16g128": "quantise{weights=int4 activations=float group=128}",
    }


def test_a_calibration_rounds_without_codecs(tmp_path: Path) -> None:
    """With codecs it bounds their error, too; alone it says by what weights are rounded."""
    numbers = np.random.default_rng(0)
    seen = {"image": (24, 1, 96), "noise": (24, 1, 128)}
    file = tmp_path / "seen.npz"
    drawn = {name: numbers.normal(size=shape).astype("f") for name, shape in seen.items()}
    np.savez(file, image=drawn["image"], noise=drawn["noise"])
    target = {"edge": slow_memory(tmp_path), "cloud": "a100", "link": "1MB/s,20ms"}
    made = vlacut.plan(policy(tmp_path), **target, precisions="int4", calibration=str(file))
    assert "by gptq over 6 observations" in made.converted
    plain = Target(**target, quantise="int4", calibration=str(file))
    assert f"quantise{{weights=int4 calibration={file}}}" in pipeline_for(plain)
    assert "calibration" not in pipeline_for(plain).partition("partition{")[2]


def test_a_request_that_cannot_be_met_is_refused(tmp_path: Path) -> None:
    target = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "1MB/s,20ms"}
    with pytest.raises(InputError, match="leave --quantise out"):
        vlacut.plan(policy(tmp_path), **target, precisions="int4", quantise="int8")
    with pytest.raises(InputError, match="--rounding-method: rtm: did you mean rtn"):
        vlacut.plan(policy(tmp_path), **target, precisions="int4", rounding_method="rtm")
    with pytest.raises(vlacut.errors.PassError, match="no phase 'prefill'") as refused:
        vlacut.plan(policy(tmp_path), **target, precisions="prefill=int4")
    assert "(in --precisions prefill=int4)" in str(refused.value.__notes__)
    simple = parse_pipeline("simplify")
    with pytest.raises(InputError, match="come in before annotate-structure"):
        run_passes(policy(tmp_path), simple, {"int4": "quantise{weights=int4}"}, unwatched)


def test_what_does_not_fit_beside_the_program_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 512)  # bytes to a page, and pages
    target = {"edge": slow_memory(tmp_path), "cloud": "a100", "link": "1MB/s,20ms"}
    made = vlacut.plan(policy(tmp_path), **target, precisions="int8").plan
    assert made.variants[1].action_error.measured is None
    assert "does not fit into the 0.000262 GB" in made.variants[1].action_error.why_not
