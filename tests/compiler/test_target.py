"""What users ask for: written into a pipeline word for word, and refused before a model is read."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import pytest
from support.commands import Vlacut
from support.programs import looping_program

from vlacut.compiler.planning import plan_program
from vlacut.compiler.target import Target
from vlacut.compiler.target_pipeline import pipeline_for
from vlacut.errors import InputError, PassError
from vlacut.hardware import Side
from vlacut.ir.annotation import SECONDS, Seconds
from vlacut.ir.dataflow import cuts_of, trace_dataflow
from vlacut.ir.pipeline import Pipeline, parse_pipeline
from vlacut.tensor.codec import parse_codecs

TARGET = Target("jetson-agx-orin", "a100", "1GB/s,0ms")
PRIVATE = ("image", "state")


@pytest.mark.parametrize(
    "text",
    ["plain", "two words", 'say "so"', "{braces}", "back\\slash", "a=b", "", " ", '"', "ü,;"],
)
def test_any_text_is_an_option(text: str) -> None:
    made = parse_pipeline(pipeline_for(replace(TARGET, pin=(text, "x=edge"))))
    partition = next(one for one in made.passes if one.name == "partition")
    assert vars(partition)["pins"] == f"{text};x=edge"
    assert parse_pipeline(str(made)) == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partition{link=10 MB/s}", "no option 'MB/s'"),
        ('partition{pins="a}', "does not parse"),
        ('partition{pins="a"b}', "does not parse"),
        ('partition{pins="\\q"}', "no string of JSON"),
    ],
)
def test_what_does_not_parse_is_refused(text: str, message: str) -> None:
    with pytest.raises(PassError, match=message):
        parse_pipeline(text)


def test_spaces_are_as_good_as_none() -> None:
    asked = replace(TARGET, link="10 MB/s, 20 ms", cloud_budget="12.1 GB", deadline="100 ms")
    plain = replace(TARGET, link="10MB/s,20ms", cloud_budget="12.1GB", deadline="100ms")
    rows = [plan_program(looping_program(), one).plan.strategies for one in (asked, plain)]
    assert rows[0] == rows[1]
    assert parse_codecs("int8 , fp16") == parse_codecs("fp16,int8")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"edge": "jetson"}, "unknown device"),
        ({"link": "fast"}, "link 'fast' does not parse"),
        ({"link_trace": "none.csv"}, "no bandwidth trace"),
        ({"cloud_budget": "lots"}, "--cloud-budget: size 'lots'"),
        ({"edge_memory": "-1GB"}, "--edge-memory: size '-1GB'"),
        ({"cloud_time": "soon"}, "--cloud-time: time 'soon'"),
        ({"deadline": "100"}, "--deadline: time '100' does not parse; write e.g. 100ms"),
        ({"codecs": "mp3"}, "there is no codec 'mp3'"),
        ({"pool": "block", "bandwidth": "fast"}, "bandwidths 'fast' are neither a range"),
        ({"max_action_error": -1.0}, "--max-action-error: -1: write a share"),
        ({"max_action_error": math.nan}, "--max-action-error: nan: write a share"),
        ({"rounding_error": -1.0, "quantise": "int8"}, "--rounding-error: -1: write a share"),
        ({"rounding_error": 0.0, "quantise": "int8"}, "--rounding-error: 0: whatever is rounded"),
        ({"exact": ("head*",)}, "--rounding-error, --rounding-method, --exact and --round-embed"),
        ({"rounding_method": "rtn"}, "--rounding-error, --rounding-method, --exact and --round-e"),
    ],
)
def test_what_no_model_could_be_cut_for_is_said_first(
    asked: dict[str, str | float],
    message: str,
    vlacut: Vlacut,
) -> None:
    with pytest.raises(InputError, match=message):
        replace(TARGET, **asked).check()  # type: ignore[arg-type]
    given = {"edge": TARGET.edge, "cloud": TARGET.cloud, "link": TARGET.link, **asked}
    words = [word for name, text in given.items() for word in (f"--{name.replace('_', '-')}", text)]
    status, _, err = vlacut("plan", "no such model", *words)
    assert status == 2
    assert message in err


def test_quantise_has_the_names_of_the_literature() -> None:
    asked = replace(TARGET, quantise="w4a16")
    asked.check()
    assert "quantise{weights=int4 activations=float}" in pipeline_for(asked)
    with pytest.raises(InputError, match=r"--quantise: w4a61: .*w4a16"):
        replace(TARGET, quantise="w4a61").check()


def test_a_pipeline_of_ones_own_must_do_what_the_options_ask() -> None:
    text = pipeline_for(TARGET)
    asked = replace(TARGET, cloud_budget="1kB", codecs="int8")
    with pytest.raises(InputError, match=r"no annotate-codecs.*codecs=int8"):
        plan_program(looping_program(), asked, text)
    with pytest.raises(InputError, match=r"no partition\{cloud-budget=1kB\}"):
        plan_program(looping_program(), replace(TARGET, cloud_budget="1kB"), text)
    with pytest.raises(InputError, match=r"no partition\{link=2GB/s\}"):
        plan_program(looping_program(), replace(TARGET, link="2GB/s"), text)
    more = text.removesuffix("}") + " strategy=fixed-half}"
    assert plan_program(looping_program(), TARGET, more).plan.strategies[0].name == "fixed-half"


def test_every_variant_keeps_the_limits_that_hold_at_every_bandwidth() -> None:
    """Without them this pool has everything in the cloud."""
    pooled = replace(TARGET, pool="portfolio:1GB", bandwidth="1MB/s-1TB/s", cloud_budget="17kB")

    def in_cloud(asked: Target) -> set[str]:
        program = looping_program()
        plan_program(program, asked)
        dataflow = trace_dataflow(program)
        placements = zip(*(cut.sides for cut in cuts_of(dataflow).variants), strict=True)
        pairs = zip(dataflow.nodes, placements, strict=True)
        return {str(node.name) for node, sides in pairs if node and Side.CLOUD in sides}

    free = in_cloud(pooled)
    assert {"node_embed", "node_join"} <= free
    assert not in_cloud(replace(pooled, private=PRIVATE))
    assert in_cloud(replace(pooled, pin=("node_embed=edge",))) <= free - {"node_embed"}
    assert not in_cloud(replace(pooled, cloud_time="0ms"))
    assert "node_embed" not in in_cloud(replace(pooled, pool="block", pin=("node_embed=edge",)))


def test_a_pool_says_that_it_is_for_latency_alone() -> None:
    pooled = replace(TARGET, pool="portfolio:1GB", bandwidth="1MB/s-1TB/s", cloud_budget="17kB")
    for goal, told in (("latency", False), ("energy", True)):
        planned = plan_program(looping_program(), replace(pooled, minimise=goal))
        assert len(planned.plan.variants) > 1
        said = "the least energy is that of chosen alone"
        assert any(said in line for line in planned.warnings) is told


def test_a_pool_is_of_a_program_that_is_cut_and_has_not_changed_since() -> None:
    program = looping_program()
    *before, last = parse_pipeline(pipeline_for(replace(TARGET, pool="portfolio:1GB"))).passes
    with pytest.raises(PassError, match="run partition first"):
        Pipeline((*before[:-1], last)).run(program)
    parse_pipeline(pipeline_for(TARGET)).run(program)
    graph = program.phases[-1].model.graph
    refine = next(node for node in graph if node.name == "node_refined")
    join = refine.inputs[0]
    assert join is not None
    more = ir.node("Abs", [join], name="node_more")
    more.outputs[0].name, more.outputs[0].dtype, more.outputs[0].shape = (
        "more",
        join.dtype,
        join.shape,
    )
    refine.replace_input_with(0, more.outputs[0])
    graph.insert_before(refine, more)
    SECONDS.put(more, Seconds(1e-6, 1e-6))
    with pytest.raises(PassError, match="changed since it was cut; run partition again"):
        last.run(program)


def test_a_program_is_planned_anew_for_another_target() -> None:
    """What an earlier target asked for is no part of it."""
    program = looping_program()
    slow = replace(TARGET, link="100kB/s,5ms", pin=("*=cloud",))
    plain = plan_program(looping_program(), slow).plan
    coded = replace(slow, codecs="int8", pool="portfolio:1GB")
    assert len(plan_program(program, coded).plan.strategies) > len(plain.strategies)
    assert plan_program(program, slow).plan == plain


@pytest.mark.parametrize("option", ["--quantile=0.5", "--bandwidth=1MB/s-2MB/s"])
def test_an_option_that_nothing_would_heed_is_refused(
    option: str, vlacut: Vlacut, onnx_file: Path
) -> None:
    words = ("plan", onnx_file, "--edge", TARGET.edge, "--cloud", TARGET.cloud)
    status, _, err = vlacut(*words, "--link", TARGET.link, option)
    assert status == 2
    assert f"{option.partition('=')[0]} goes with --" in err
