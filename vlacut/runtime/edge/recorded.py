"""Runs in files: the reports of control steps, as `vlacut run --record` writes them.

The file is numpy's .npz without pickles. N steps, V variants, P parts of the edge and the cloud:

    format                    1
    model, digest             of the bundle, digest in hexadecimal
    variants                  V           names
    parts                     P           names
    began_ns, returned_ns     N           on the edge's monotonic clock
    captured_ns               N           of the observation behind the action
    variant                   N           index in `variants`
    source, reason, state     N           texts, as in `StepReport`
    part_s                    N x P       seconds in each part; 0 where it did not run
    codec_s                   N x 2       seconds in codecs on the edge, in the cloud
    link_s                    N x 2       seconds that frames were on their way up, down
    moved                     N x 2       bytes up, down
    expected                  N x 3       of the network: bytes per second up, down, round trip in s
    overrun_s                 N           after the deadline
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from vlacut.errors import InputError
from vlacut.plans.plan import Plan
from vlacut.runtime.edge.report import StepReport
from vlacut.tensor.npz import UNREADABLE, npz_bytes, read_npz, reason

FORMAT = 1
_TEXTS = ("variants", "parts", "source", "reason", "state")
_WIDE = {"codec_s": 2, "link_s": 2, "moved": 2, "expected": 3}


@dataclass(frozen=True, eq=False)
class Run:
    """See the module's docstring."""

    model: str
    digest: str
    variants: np.ndarray
    parts: np.ndarray
    began_ns: np.ndarray
    returned_ns: np.ndarray
    captured_ns: np.ndarray
    variant: np.ndarray
    source: np.ndarray
    reason: np.ndarray
    state: np.ndarray
    part_s: np.ndarray
    codec_s: np.ndarray
    link_s: np.ndarray
    moved: np.ndarray
    expected: np.ndarray
    overrun_s: np.ndarray

    @property
    def latency_s(self) -> np.ndarray:
        """From asking for a step to its action."""
        spent: np.ndarray = (self.returned_ns - self.began_ns) * 1e-9
        return spent

    @property
    def age_s(self) -> np.ndarray:
        """Of the observation behind an action when that was returned."""
        since: np.ndarray = (self.returned_ns - self.captured_ns) * 1e-9
        return since


_NAMES = tuple(field.name for field in fields(Run))


def record_steps(plan: Plan, digest: bytes, reports: Sequence[StepReport]) -> Run:
    """Reports of the steps of a plan, as a run."""
    variants = [variant.name for variant in plan.variants]
    parts = [part.name for part in plan.parts]
    spent = [{**report.edge_s, **report.cloud_s} for report in reports]
    return Run(
        model=plan.program,
        digest=digest.hex(),
        variants=np.array(variants, str),
        parts=np.array(parts, str),
        began_ns=_whole(report.began_ns for report in reports),
        returned_ns=_whole(report.returned_ns for report in reports),
        captured_ns=_whole(report.made.captured_ns for report in reports),
        variant=_whole(variants.index(report.variant) for report in reports),
        source=np.array([report.source.value for report in reports], str),
        reason=np.array([report.reason for report in reports], str),
        state=np.array([report.state.value for report in reports], str),
        part_s=np.array([[each.get(name, 0.0) for name in parts] for each in spent]),
        codec_s=np.array([[one.edge_codec_s, one.cloud_codec_s] for one in reports]),
        link_s=np.array([[report.uplink_s, report.downlink_s] for report in reports]),
        moved=np.array([[report.bytes_up, report.bytes_down] for report in reports], np.int64),
        expected=np.array(
            [[one.link.wire_up, one.link.wire_down, one.link.rtt] for one in reports]
        ),
        overrun_s=np.array([one.overrun.seconds if one.overrun else 0.0 for one in reports]),
    )


def run_bytes(run: Run) -> bytes:
    """The file of a run."""
    arrays = {name: np.asarray(getattr(run, name)) for name in _NAMES}
    return npz_bytes({"format": np.array(FORMAT), **arrays})


def read_run(path: Path) -> Run:
    """The run of a file, checked. Raises InputError saying what is wrong with it."""
    try:
        arrays = read_npz(path)
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    missing = [name for name in ("format", *_NAMES) if name not in arrays]
    if missing or arrays["format"].ndim or arrays["format"] != FORMAT:
        raise InputError(
            f"{path}: holds no run of format {FORMAT} ({', '.join(missing) or 'another format'}); "
            f"write one with vlacut run --record"
        )
    return checked_run(path, arrays)


def checked_run(path: Path, arrays: Mapping[str, np.ndarray]) -> Run:
    """The run of arrays by name. Raises InputError, naming the file, where one does not fit."""
    wrong = [name for name in _NAMES if not _fits(name, arrays)]
    if wrong:
        raise InputError(
            f"{path}: {wrong[0]} has another type or shape than a run's; write it anew"
        )
    texts = {name: str(arrays[name]) for name in ("model", "digest")}
    return Run(**{name: texts.get(name, arrays[name]) for name in _NAMES})  # type: ignore[arg-type]


def _fits(name: str, arrays: Mapping[str, np.ndarray]) -> bool:
    array, steps = arrays[name], arrays["began_ns"].shape[:1]
    if name in ("model", "digest"):
        return array.ndim == 0 and array.dtype.kind == "U"
    if name in _TEXTS:
        rows = array.shape if name in ("variants", "parts") else steps
        return array.dtype.kind == "U" and array.ndim == 1 and array.shape == rows
    width = arrays["parts"].shape if name == "part_s" else (_WIDE[name],) if name in _WIDE else ()
    if (
        array.shape != (*steps, *width)
        or array.dtype.kind not in "if"
        or not steps[0:1]
        or not steps[0]
    ):
        return False
    if name == "variant":
        return bool(((array >= 0) & (array < len(arrays["variants"]))).all())
    return bool(np.isfinite(array).all())


def _whole(numbers: object) -> np.ndarray:
    return np.array(list(numbers), np.int64)  # type: ignore[call-overload]
