"""The pipeline that does what a target asks for."""

from __future__ import annotations

from collections.abc import Iterator

from vlacut.compiler.conversions import NONE, Conversions
from vlacut.compiler.part_surgery import on_phases
from vlacut.compiler.precision_list import quantise_options
from vlacut.compiler.target import SIMPLER, Target
from vlacut.compiler.way_options import AGE
from vlacut.errors import InputError
from vlacut.hardware import Side
from vlacut.ir.annotation import conversions_text
from vlacut.ir.pipeline import Pipeline, pass_text
from vlacut.pricing.coding import COVERAGE
from vlacut.tensor.drafts import INPUT


def pipeline_for(target: Target, conversions: Conversions = NONE) -> str:
    """Text of the default pipeline for a target, types converted first."""
    return ",".join(pass_text(*one) for one in _passes(target, conversions))


def check_pipeline(target: Target, pipeline: Pipeline) -> None:
    """Raise InputError if a pipeline of the user's own does not do what a target asks."""
    for name, options in _passes(target, NONE):
        made = [vars(one) for one in pipeline.passes if one.name == name]
        lacks = [
            f"{key}={value}"
            for key, value in options.items()
            if not any(_told(one[key.replace("-", "_")]) == value for one in made)
        ]
        if lacks:
            raise InputError(
                f"the pipeline has no {name}{{{' '.join(lacks)}}}, as the other options ask "
                f"for; write it there, or leave --pipeline out"
            )


def _passes(target: Target, conversions: Conversions) -> Iterator[tuple[str, dict[str, str]]]:
    """The names of the passes, and those of their options that the target sets."""
    yield "simplify", {}
    for each in on_phases(target.surgery):
        yield "surgery", {"file": each.file, "function": each.function}
    for source, to in conversions.both.items():
        yield "convert-types", {"source": source, "target": to}
    for source, to in conversions.ends.items():
        yield "convert-types", {"source": source, "target": to, "keep": "inside"}
    if target.real_time_chunking:
        yield "real-time-chunking", {"mode": target.real_time_chunking}
    if target.quantise:
        # What `pack` shall join has one scale.
        options = quantise_options(target.quantise)
        shared = {"shared": "true"} if target.packs and options["weights"] != "int4" else {}
        yield "quantise", {**options, **shared, **target.rounding}
    if target.precision:
        options = {"source": "weights", "target": target.precision, "keep": "unsafe"}
        yield "convert-types", options
    if target.draft:
        table = None if target.draft == INPUT else target.measured_drafts
        right = {} if table is None else {"right": repr(table.right(target.draft))}
        yield "draft", {"source": target.draft, **right}
    if target.in_flight:
        yield "in-flight", {"requests": str(target.in_flight)}
    if target.packs:
        yield "simplify", {}
        yield "pack", {}
    devices = {"edge": target.edge, "cloud": target.cloud}
    yield "annotate-structure", {}
    types = {f"{one.value}-types": conversions_text(conversions.sides.get(one, {})) for one in Side}
    yield "annotate-cost", devices | {name: text for name, text in types.items() if text}
    for file in target.costs:
        yield "measured-cost", {"costs": file, **devices}
    if target.codecs:
        yield "annotate-codecs", {**devices, "codecs": target.codecs}
    yield "partition", _partition(target)
    if target.pool != "none":
        pool = {"pool": target.pool, "bandwidth": target.bandwidth, "engines": target.pool_engines}
        yield "alternatives", pool


def _partition(target: Target) -> dict[str, str]:
    error = target.max_action_error
    # Then it says how to round, and there is no codec whose error it could bound.
    rounds_alone = bool((target.quantise or target.precisions) and not target.codecs)
    options = {
        "link": target.planned_link(),
        "cloud-budget": target.cloud_budget,
        "edge-memory": target.edge_memory,
        "minimise": target.minimise if target.minimise not in ("latency", AGE) else "",
        "deadline": target.deadline,
        "pins": ";".join(target.pin),
        "private": ";".join(target.private),
        "cloud-time": target.cloud_time,
        "max-action-error": "" if error is None else repr(float(error)),
        "calibration": "" if rounds_alone else target.calibration,
        "coverage": "" if target.coverage == COVERAGE else repr(float(target.coverage)),
        "simpler": "" if target.simpler == SIMPLER else repr(float(target.simpler)),
    }
    return {name: value for name, value in options.items() if value}


def _told(value: object) -> str:
    """An option of a pass, as a pipeline has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
