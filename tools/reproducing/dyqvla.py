"""DyQ-VLA's tables."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping

from paper_loads import PRESETS

from reproducing import episodes
from reproducing.tables import Kind, Make, Row, Table, missing
from vlacut import registry

PAPER = "DyQ-VLA"
SOURCE = "arXiv 2603.07904 v2, by notes that quote it"
GROUP, SCALE_BITS, CODE_BITS = 32, 16, 4  # `quantise{weights=int4 group=32}` of bfloat16
_STATIC = ("as it is", "W8A8", "W4A16", "W4A8")
# Products of the LLM's layers, of the vision towers' blocks, of the projector, and the head; the
# embedding stays exact, as the pass leaves it.
PRODUCT = re.compile(r"((layers|blocks)\.\d+\.|projector\.|lm_head\.).*weight$")
HEAD = "lm_head"


def memory() -> Table:
    """Weights at four bits."""
    parameters = registry.load("models", "openvla").policy(PRESETS["openvla"]).parameters
    shapes = {name: tuple(one.shape) for name, one in parameters.items()}
    products = [name for name, one in shapes.items() if PRODUCT.search(name) and len(one) == 2]
    headless = [name for name in products if HEAD not in name]
    before = sum(2 * math.prod(one) for one in shapes.values())
    after = _stored(shapes, products)
    with_head = _stored(shapes, headless)
    rows = [
        Row("bfloat16", "15.2 GB", f"{before / 1e9:.1f} GB", Kind.COUNTED),
        Row("weights in 4 bits", "4.7 GB", f"{after / 1e9:.2f} GB", Kind.COUNTED),
        Row("share", "30.9 %", f"{after / before:.1%}", Kind.COUNTED),
        Row("share, head exact", "", f"{with_head / before:.1%}", Kind.COUNTED),
        Row("QVLA", "4.3 GB", "", Kind.MISSING),
    ]
    note = (
        f"Ours: groups of {GROUP}, or of 16 where {GROUP} does not divide a weight's inputs, with "
        f"a bfloat16 scale: {CODE_BITS + SCALE_BITS / GROUP:g} bits a weight of products; "
        "embedding, convolutions, norms and biases exact. W4A16 and W4A8 read the same codes. "
        "`vlacut plan openvla --precision bfloat16 --quantise int4` counts the same, less what "
        "nothing reads."
    )
    return Table(PAPER, "table I, memory", "memory of OpenVLA", SOURCE, rows, note)


def _stored(shapes: Mapping[str, tuple[int, ...]], rounded: Container[str]) -> float:
    """Bytes of parameters where some are in 4 bits and the others in bfloat16."""
    return sum(
        math.prod(shape) * ((CODE_BITS + SCALE_BITS / _group(shape)) / 8 if name in rounded else 2)
        for name, shape in shapes.items()
    )


def _group(shape: tuple[int, ...]) -> int:
    """Inputs of a product that share a scale."""
    return GROUP if shape[1] % GROUP == 0 else GROUP // 2


def success() -> Table:
    """Whether the task is done, in every precision."""
    rows = [
        Row("success", "76.1 %, 99.5 % of bfloat16", "", Kind.MISSING),
        *(
            episodes.row(f"belt, {label}", "", "precisions-flow", label, episodes.success)
            for label in (*_STATIC, *(f"{one}, 100 ms" for one in (*_STATIC, "DyQ-VLA", "ours")))
        ),
    ]
    note = (
        f"{episodes.BENCH} No back end has products of 4-bit weights with 4-bit activations, so "
        "the rule falls to W4A8. Late chunks are played naively, each asked for when the last is "
        "empty."
    )
    return Table(PAPER, "table I, success", "LIBERO", SOURCE, rows, note)


TABLES: tuple[Make, ...] = (
    memory,
    success,
    missing(PAPER, "table I, speed", "LIBERO, one GPU", SOURCE,
            "Needs their kernels of 4-bit weights with 2 and 4-bit activations, which no back end "
            "has; ONNX Runtime's have 8-bit ones, TensorRT's 16-bit ones.",
            Row("speed-up over bfloat16", "1.47 to 1.51 x", "", Kind.MISSING)),
    missing(PAPER, "ablation", "LIBERO-Spatial", SOURCE, "Needs the same.",
            Row("static W4A4, all of it", "69.2 %, 84.7 % at 89.4 ms, 1.51 x", "", Kind.MISSING)),
    missing(PAPER, "table II", "a real robot", SOURCE, "Needs the robot.",
            Row("atomic, spatial, composite", "1.43, 1.32, 1.38 x", "", Kind.MISSING)),
)  # fmt: skip
