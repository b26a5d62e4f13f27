"""From a model to a plan, or to the bundle of both sides."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from vlacut.errors import InputError, Progress, suggestion, unwatched
from vlacut.hardware import Side

if TYPE_CHECKING:
    from vlacut.bundle.opened import Bundle
    from vlacut.compiler.planning import Planned
    from vlacut.compiler.target import Target
    from vlacut.ir.program import Program

AnyPath = Union[str, "os.PathLike[str]"]
_log = logging.getLogger("vlacut.compile")
_NEEDED = ("edge", "cloud", "link")
_SEVERAL = ("pin", "surgery", "private", "costs")


def plan(
    model: Any,
    args: tuple[Any, ...] = (),
    *,
    edge: str = "",
    cloud: str = "",
    link: str = "",
    cloud_budget: str = "",
    cloud_time: str = "",
    edge_memory: str = "",
    pin: Sequence[str] = (),
    private: Sequence[str] = (),
    minimise: str = "latency",
    deadline: str = "",
    link_trace: str = "",
    quantile: float = 0.95,
    precision: str = "",
    quantise: str = "",
    precisions: str = "",
    rounding_error: float | None = None,
    rounding_method: str = "",
    exact: Sequence[str] = (),
    embeddings: bool = False,
    surgery: Sequence[str] = (),
    real_time_chunking: str = "",
    draft: str = "",
    draft_table: AnyPath = "",
    in_flight: int | str = 0,
    batch: str = "",
    max_age: str = "",
    costs: Sequence[str] = (),
    codecs: str = "",
    max_action_error: float | None = None,
    calibration: str = "",
    coverage: float = 0.95,
    pool: str = "none",
    pool_engines: str = "segments",
    bandwidth: str = "0.1MB/s-100MB/s",
    simpler: float = 0.01,
    state_copies: str = "",
    kept_observations: int = 4,
    state: Mapping[str, str] | str | None = None,
    kwargs: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    fixed: Mapping[str, float | Sequence[float]] | None = None,
    weights: AnyPath | Iterable[AnyPath] = (),
    cache: bool = True,
    task: str = "",
    original: AnyPath = "",
    config: AnyPath = "",
    pipeline: str = "",
    progress: Progress = unwatched,
    **unknown: Any,
) -> Planned:
    """Decide what of a model runs where, and what that would cost. Nothing is written.

    Args:
        model: a `Program`, an `nn.Module`, an `fx.GraphModule` or an `ExportedProgram`; or, as on
            the command line, a path or the name of a model of the zoo.
        args: example inputs, if the model is a module.
        edge: the robot's computer: a name of `vlacut devices`, or a TOML file.
        cloud: the server, likewise.
        link: the network between them: `UP[/DOWN][,RTT]`, e.g. `10MB/s,20ms`, or a TOML file.
        cloud_budget: most bytes of weights in the cloud, e.g. `12.1GB`; empty for its memory.
        cloud_time: most compute in the cloud per control step, e.g. `80ms`.
        edge_memory: most bytes of weights on the edge; empty for its memory.
        pin: operators whose side is given, e.g. `vision.*=edge`.
        private: inputs that leave the edge only through a block: `INPUT[:BLOCK]`.
        minimise: `latency`, `cloud-time`, `energy` of the edge, or `age` of the action in force.
        deadline: the longest control step, e.g. `100ms`.
        link_trace: recorded bandwidths, used instead of the link's rates.
        quantile: with `link_trace`: the share of the time that the latency must hold for.
        precision: `float16` or `bfloat16`; empty to leave the model as it is.
        quantise: `int8`, `float8e4m3fn` or `int4`; or `w8a8`, `w4a16`, `w4a8`; empty: nothing.
        precisions: more variants, in these precisions, e.g. `int8,int4`; empty for none.
        rounding_error: the most that `quantise` and `precisions` may move the action, as a share of
            its magnitude: the weights that move it most stay as they are.
        rounding_method: how these round to 4 bits: `gptq`, which is the default, or `rtn`.
        exact: weights that stay as they are in any case, by name or pattern, e.g. `lm_head*`.
        embeddings: whether 4 bits are for embeddings, too.
        surgery: `FILE.py:FUNCTION` that rewrite phases as graphs of onnx-graphsurgeon; with `edge=`
            or `cloud=` before it the parts of that side.
        real_time_chunking: `guided` or `prefix`: how a denoise loop continues the chunk in force.
        draft: a token loop runs in one pass over drafts of its tokens: `last`, `velocity`,
            `kalman:RATIO`, `chunk:SHIFT:WIDTH`, an `input`, or `auto` for the best by the table;
            what it says stays what it says without.
        draft_table: a file of `vlacut calibrate-draft`: how often drafts are right.
        in_flight: how many requests of successive steps overlap, so that weights are read once for
            all: more actions a second, each of an older observation. 0 for one at a time, `auto`
            for as many as suit what is minimised within `max_age`.
        batch: how many robots run at once on the server, e.g. `1,2,4,8`; empty for one.
        max_age: the most that the action in force may be old on average, e.g. `300ms`.
        costs: files of `vlacut profile`; they take precedence over the device model.
        codecs: codecs that tensors may cross in, e.g. `fp16,int8`, or `all`.
        max_action_error: the most that codecs may move the action, as a share of its magnitude.
        calibration: file or folder of observations that bound that error on fresh ones, and by
            which weights and activations are rounded.
        coverage: share of fresh observations that the bound holds for.
        pool: alternative cuts: `none`, `block` or `portfolio:400MB`.
        pool_engines: `segments` that variants share, or `fused`, one per variant and side.
        bandwidth: bandwidths that the pool is for: a range, or a folder of traces.
        simpler: a simpler cut is taken if it costs at most this share more than the optimum; 0 for
            never.
        state_copies: `edge` keeps a copy of all state on the robot, so that it can always go on
            alone; empty leaves state where it is read.
        kept_observations: how many steps' observations the robot keeps, to run them again.
        state: outputs of a step, each with the input of the next step that it feeds; `auto` finds
            the pairs by name.
        kwargs: example keyword inputs, if the model is a module.
        shapes: the shapes of dynamic inputs, by name.
        fixed: inputs of ONNX files that become constants, by name: `{"sr": 16000}`.
        weights: safetensors files, or folders of them, for a model traced on shapes alone.
        cache: whether to use the user's cache of traced programs, if the model is given by name.
        task: the prompt of a checkpoint that reads one; empty leaves its tokens as inputs.
        original: a Python with LeRobot, whose own policy a `lerobot:DIR` is compared with.
        config: the configuration that an `openpi:DIR` was trained by, a name or a .toml file.
        pipeline: passes to run instead of the default, as text.
        progress: called with what is being done, how much is done, and how much there is.
        unknown: must be empty; a misspelt option is refused with the nearest name.

    See `vlacut.compiler.target.Target` for what the options mean in full. Raises InputError,
    PassError or BackendError.
    """
    target = _target("plan", locals())
    from dataclasses import replace

    from vlacut.compiler.planning import plan_program
    from vlacut.frontends.checkpoint import load_weights, open_checkpoint

    program = _program(model, args, kwargs, shapes, fixed, state, cache, task, original, config)
    unused = load_weights(program, open_checkpoint(_paths(weights))) if weights else ""
    planned = plan_program(program, target, pipeline, progress)
    return replace(planned, warnings=(unused, *planned.warnings)) if unused else planned


def compile(  # the name users expect
    model: Any,
    args: tuple[Any, ...] = (),
    *,
    out: AnyPath,
    edge: str = "",
    cloud: str = "",
    link: str = "",
    cloud_budget: str = "",
    cloud_time: str = "",
    edge_memory: str = "",
    pin: Sequence[str] = (),
    private: Sequence[str] = (),
    minimise: str = "latency",
    deadline: str = "",
    link_trace: str = "",
    quantile: float = 0.95,
    precision: str = "",
    quantise: str = "",
    precisions: str = "",
    rounding_error: float | None = None,
    rounding_method: str = "",
    exact: Sequence[str] = (),
    embeddings: bool = False,
    surgery: Sequence[str] = (),
    real_time_chunking: str = "",
    draft: str = "",
    draft_table: AnyPath = "",
    in_flight: int | str = 0,
    batch: str = "",
    max_age: str = "",
    costs: Sequence[str] = (),
    codecs: str = "",
    max_action_error: float | None = None,
    calibration: str = "",
    coverage: float = 0.95,
    pool: str = "none",
    pool_engines: str = "segments",
    bandwidth: str = "0.1MB/s-100MB/s",
    simpler: float = 0.01,
    state_copies: str = "",
    kept_observations: int = 4,
    state: Mapping[str, str] | str | None = None,
    kwargs: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    fixed: Mapping[str, float | Sequence[float]] | None = None,
    weights: AnyPath | Iterable[AnyPath] = (),
    cache: bool = True,
    task: str = "",
    original: AnyPath = "",
    config: AnyPath = "",
    backend: str = "onnxruntime",
    provider: str = "",
    pipeline: str = "",
    golden: bool = True,
    model_check: bool = True,
    model_tolerance: float | None = None,
    predictor: AnyPath | None = None,
    actions: AnyPath | None = None,
    precision_table: AnyPath | None = None,
    progress: Progress = unwatched,
    **unknown: Any,
) -> Bundle:
    """Cut a model and write the bundle of both sides. `out` appears whole, or not at all.

    Args:
        model: a `Program`, an `nn.Module`, an `fx.GraphModule` or an `ExportedProgram`; or, as on
            the command line, a path or the name of a model of the zoo.
        args: example inputs, if the model is a module.
        out: where to write the bundle.
        edge: the robot's computer: a name of `vlacut devices`, or a TOML file.
        cloud: the server, likewise.
        link: the network between them: `UP[/DOWN][,RTT]`, e.g. `10MB/s,20ms`, or a TOML file.
        cloud_budget: most bytes of weights in the cloud, e.g. `12.1GB`; empty for its memory.
        cloud_time: most compute in the cloud per control step, e.g. `80ms`.
        edge_memory: most bytes of weights on the edge; empty for its memory.
        pin: operators whose side is given, e.g. `vision.*=edge`.
        private: inputs that leave the edge only through a block: `INPUT[:BLOCK]`.
        minimise: `latency`, `cloud-time`, `energy` of the edge, or `age` of the action in force.
        deadline: the longest control step, e.g. `100ms`.
        link_trace: recorded bandwidths, used instead of the link's rates.
        quantile: with `link_trace`: the share of the time that the latency must hold for.
        precision: `float16` or `bfloat16`; empty to leave the model as it is.
        quantise: `int8`, `float8e4m3fn` or `int4`; or `w8a8`, `w4a16`, `w4a8`; empty: nothing.
        precisions: more variants, in these precisions, e.g. `int8,int4`; empty for none.
        rounding_error: the most that `quantise` and `precisions` may move the action, as a share of
            its magnitude: the weights that move it most stay as they are.
        rounding_method: how these round to 4 bits: `gptq`, which is the default, or `rtn`.
        exact: weights that stay as they are in any case, by name or pattern, e.g. `lm_head*`.
        embeddings: whether 4 bits are for embeddings, too.
        surgery: `FILE.py:FUNCTION` that rewrite phases as graphs of onnx-graphsurgeon; with `edge=`
            or `cloud=` before it the parts of that side.
        real_time_chunking: `guided` or `prefix`: how a denoise loop continues the chunk in force.
        draft: a token loop runs in one pass over drafts of its tokens: `last`, `velocity`,
            `kalman:RATIO`, `chunk:SHIFT:WIDTH`, an `input`, or `auto` for the best by the table;
            what it says stays what it says without.
        draft_table: a file of `vlacut calibrate-draft`: how often drafts are right.
        in_flight: how many requests of successive steps overlap, so that weights are read once for
            all: more actions a second, each of an older observation. 0 for one at a time, `auto`
            for as many as suit what is minimised within `max_age`.
        batch: how many robots run at once on the server, e.g. `1,2,4,8`; empty for one.
        max_age: the most that the action in force may be old on average, e.g. `300ms`.
        costs: files of `vlacut profile`; they take precedence over the device model.
        codecs: codecs that tensors may cross in, e.g. `fp16,int8`, or `all`.
        max_action_error: the most that codecs may move the action, as a share of its magnitude.
        calibration: file or folder of observations that bound that error on fresh ones, and by
            which weights and activations are rounded.
        coverage: share of fresh observations that the bound holds for.
        pool: alternative cuts: `none`, `block` or `portfolio:400MB`.
        pool_engines: `segments` that variants share, or `fused`, one per variant and side.
        bandwidth: bandwidths that the pool is for: a range, or a folder of traces.
        simpler: a simpler cut is taken if it costs at most this share more than the optimum; 0 for
            never.
        state_copies: `edge` keeps a copy of all state on the robot, so that it can always go on
            alone; empty leaves state where it is read.
        kept_observations: how many steps' observations the robot keeps, to run them again.
        state: outputs of a step, each with the input of the next step that it feeds; `auto` finds
            the pairs by name.
        kwargs: example keyword inputs, if the model is a module.
        shapes: the shapes of dynamic inputs, by name.
        fixed: inputs of ONNX files that become constants, by name: `{"sr": 16000}`.
        weights: safetensors files, or folders of them, for a model traced on shapes alone.
        cache: whether to use the user's cache of traced programs, if the model is given by name.
        task: the prompt of a checkpoint that reads one; empty leaves its tokens as inputs.
        original: a Python with LeRobot, whose own policy a `lerobot:DIR` is compared with.
        config: the configuration that an `openpi:DIR` was trained by, a name or a .toml file.
        backend: what runs the parts, e.g. `onnxruntime`, or `edge=onnxruntime,cloud=tensorrt`.
        provider: what it is to run on, e.g. `cuda`, or `edge=cpu,cloud=cuda`; by device if empty.
        pipeline: passes to run instead of the default, as text.
        golden: whether to record a step of the uncut model, if the back end computes.
        model_check: whether to compare the program with the module or file it came from.
        model_tolerance: the largest difference that is allowed, as a share of an output's
            magnitude; None takes the one of the element type.
        predictor: a file of `vlacut train-predictor`, for the bundle's robots.
        actions: a file of `vlacut calibrate-actions`, for the bundle's robots.
        precision_table: a file of `vlacut calibrate-precision`, for the bundle's robots.
        progress: called with what is being done, how much is done, and how much there is.
        unknown: must be empty; a misspelt option is refused with the nearest name.

    Warnings about the plan go to the logger `vlacut.compile`. Raises InputError, PassError,
    BackendError, ModelDiffers if the program does not compute what its model does, or BundleError
    if `out` cannot be written.
    """
    target = _target("compile", locals())
    from vlacut.compiler.driver import compile_program
    from vlacut.frontends.checkpoint import open_checkpoint

    planned, bundle = compile_program(
        lambda: _program(model, args, kwargs, shapes, fixed, state, cache, task, original, config),
        target,
        Path(out),
        checkpoint=open_checkpoint(_paths(weights)) if weights else None,
        backend=backend,
        provider=provider,
        pipeline=pipeline,
        golden=golden,
        model_check=model_check,
        model_tolerance=model_tolerance,
        predictor=Path(predictor) if predictor is not None else None,
        actions=Path(actions) if actions is not None else None,
        precision_table=Path(precision_table) if precision_table is not None else None,
        progress=progress,
    )
    for warning in planned.warnings:
        _log.warning("%s", warning)
    if planned.plan.one_side is not None:
        where = "on the edge" if planned.plan.one_side is Side.EDGE else "in the cloud"
        _log.warning("no split pays here: everything runs %s", where)
    return bundle


def _target(function: str, given: Mapping[str, Any]) -> Target:
    """The target among the arguments of a function, checked."""
    for name in given["unknown"]:
        every = signature(globals()[function]).parameters
        known = [each for each in every if each != "unknown"]
        raise InputError(f"{function} has no option {name!r}; {suggestion(name, known)}")
    missing = [name for name in _NEEDED if not given[name]]
    if missing:
        raise InputError(f"{function} needs edge, cloud and link; add {' and '.join(missing)}")
    from vlacut.compiler.target import Target

    asked = {name: given[name] for name in Target.__dataclass_fields__}
    for name in _SEVERAL:
        value = asked[name]
        asked[name] = (value,) if isinstance(value, str) else tuple(value)
    asked["draft_table"] = os.fspath(asked["draft_table"])
    target = Target(**asked)
    target.check()
    return target


def _program(
    model: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    shapes: Mapping[str, Sequence[int]] | None,
    fixed: Mapping[str, float | Sequence[float]] | None,
    state: Mapping[str, str] | str | None,
    cache: bool,
    task: str,
    original: AnyPath,
    config: AnyPath,
) -> Program:
    from vlacut.frontends.remember import parse_state, remember

    program = _traced(model, args, kwargs, shapes, fixed, cache, task, original, config)
    if state:
        pairs = parse_state(program, [state]) if isinstance(state, str) else state
        remember(program, pairs)
    return program


def _traced(
    model: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    shapes: Mapping[str, Sequence[int]] | None,
    fixed: Mapping[str, float | Sequence[float]] | None,
    cache: bool,
    task: str,
    original: AnyPath,
    config: AnyPath,
) -> Program:
    from vlacut.ir.program import Program

    if fixed and not isinstance(model, (str, os.PathLike)):
        raise InputError("fixed is for inputs of ONNX files; fix it in the module")
    if isinstance(model, Program):
        return model
    bound = {name: tuple(shape) for name, shape in (shapes or {}).items()}
    if isinstance(model, (str, os.PathLike)):
        from vlacut.compiler.trace_cache import TraceCache
        from vlacut.compiler.tracing import traced_program
        from vlacut.frontends.load import OfCheckpoint

        kept = TraceCache() if cache else None
        settings = {
            name: tuple(value) if isinstance(value, Sequence) else (value,)
            for name, value in (fixed or {}).items()
        }
        said = OfCheckpoint(task, os.fspath(original), os.fspath(config))
        return traced_program(os.fspath(model), bound or None, kept, _log.info, settings, said)
    from vlacut.frontends.torch import program_from_module

    made: Program = program_from_module(model, args, kwargs, shapes=bound or None)
    return made


def _paths(several: AnyPath | Iterable[AnyPath]) -> list[Path]:
    if isinstance(several, (str, os.PathLike)):
        return [Path(several)]
    return [Path(each) for each in several]
