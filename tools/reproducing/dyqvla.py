"""DyQ-VLA's tables."""

from __future__ import annotations

import re

from paper_loads import PRESETS

from reproducing import episodes
from reproducing.tables import Kind, Make, Row, Table, missing
from vlacut import registry

PAPER = "DyQ-VLA"
SOURCE = "arXiv 2603.07904 v2, by notes that quote it"
GROUP, SCALE_BITS, CODE_BITS = 32, 32, 4  # as `quantise{weights=int4 group=32}` stores weights
_STATIC = ("as it is", "W8A8", "W4A16", "W4A8")
# The products of the LLM's layers and of the vision towers' blocks; embedding and head stay exact.
PRODUCT = re.compile(r"(layers|blocks)\.\d+\..*weight$")


def memory() -> Table:
    """Weights at four bits."""
    parameters = registry.load("models", "openvla").policy(PRESETS["openvla"]).parameters
    sizes = {name: one.numel() for name, one in parameters.items()}
    products = {name for name, one in parameters.items() if PRODUCT.search(name) and one.dim() == 2}
    before = sum(2 * count for count in sizes.values())
    bits = CODE_BITS + SCALE_BITS / GROUP
    after = sum(
        count * bits / 8 if name in products else 2 * count for name, count in sizes.items()
    )
    rows = [
        Row("bfloat16", "15.2 GB", f"{before / 1e9:.1f} GB", Kind.COUNTED),
        Row("weights in 4 bits", "4.7 GB", f"{after / 1e9:.1f} GB", Kind.COUNTED),
        Row("share", "30.9 %", f"{after / before:.1%}", Kind.COUNTED),
        Row("QVLA", "4.3 GB", "", Kind.MISSING),
    ]
    note = (
        f"Ours: products of layers and blocks in groups of {GROUP} with a float32 scale, {bits:g} "
        "bits a weight; embedding, projector and head exact. Ours is larger than the paper's."
    )
    return Table(PAPER, "table I, memory", "memory of OpenVLA", SOURCE, rows, note)


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
