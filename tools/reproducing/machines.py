"""The papers' machines: A100, Orin and Thor in eager PyTorch, fitted once; see `fit_paper.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import tomllib
from eager_kernels import PROMPT, Pieces, head, llama_layer, pieces
from fit_paper import LAYERS, NAMES, TABLES, Times, fit, times

from vlacut.hardware import Device
from vlacut.pricing.roofline import sequence_seconds

SHORT = {"": "A100", "orin": "Orin", "thor": "Thor"}
SOURCE = "RoboECC, arXiv 2603.20711"


@cache
def printed() -> Sequence[Mapping[str, Any]]:
    """The rows of RoboECC's tables II and III."""
    rows: list[Mapping[str, Any]] = tomllib.loads(TABLES.read_text())["row"]
    return rows


@cache
def kernels() -> Pieces:
    """The kernels of both models."""
    return pieces()


@cache
def device(short: str) -> Device:
    """A device fitted to its two rows of whole models."""
    whole = {
        str(row["model"]): float(row["total_ms"])
        for row in printed()
        if row["use"] == "calibrate" and row.get("edge", "") == short
    }
    return fit(kernels(), short, whole)


@cache
def spent(short: str) -> Times:
    """Seconds of the pieces of both models on a device."""
    return times(kernels(), device(short))


def packed(short: str, decodes: int) -> float:
    """Seconds of OpenVLA's prefill with a token each of so many older requests in its products."""
    layer = sequence_seconds(llama_layer(PROMPT + decodes, 0), device(short))
    return spent(short).vision + LAYERS * layer + sequence_seconds(head(), device(short))


def prefill(short: str) -> float:
    """Seconds of OpenVLA up to its first token."""
    found = spent(short)
    return found.vision + LAYERS * found.prefill_layer + found.head


def decode(short: str) -> float:
    """Seconds of each further token."""
    found = spent(short)
    return LAYERS * found.decode_layer + found.head


EDGES = tuple(name for name in NAMES if name)
