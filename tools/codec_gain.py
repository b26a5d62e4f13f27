"""What codecs gain: the optimal cut without and with them, over 1, 10 and 100 MB/s.

    python tools/codec_gain.py [--models openvla:tiny ...] [--links ...] [--error 0.01]

A row is a model and a link: the latency that is planned without codecs, with each codec alone, and
with all, as long as the action is off by `--error` of its magnitude at most; of models without
weights the error cannot be measured, and no limit is asked for. Nothing here is timed: latencies
are prices (`vlacut.pricing.price`), errors come from running the model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import track

from vlacut.cli.show.output import milliseconds, size, table
from vlacut.compiler.target import Target
from vlacut.compiler.target_pipeline import pipeline_for
from vlacut.frontends.load import load_program
from vlacut.ir.annotation import CUTS, OFFERS
from vlacut.ir.pipeline import Pipeline, parse_pipeline
from vlacut.ir.program import Program
from vlacut.pricing.price import Price
from vlacut.split.observations import not_runnable
from vlacut.tensor.codec import Codec

MODELS = ("openvla:tiny", "cogact:tiny", "pi0:tiny", "smolvla:tiny", "roboflamingo:tiny")
LINKS = ("1MB/s,5ms", "10MB/s,5ms", "100MB/s,5ms")
CODECS = ("", "fp16", "bf16", "int8", "int4", "all")


def main() -> None:
    """Plan everything, print a row per model and link."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--edge", default="jetson-agx-orin")
    parser.add_argument("--cloud", default="a100")
    parser.add_argument("--links", nargs="+", default=LINKS)
    parser.add_argument("--error", type=float, default=0.01)
    asked = parser.parse_args()
    rows = []
    for model in track(asked.models, "plan", console=Console(stderr=True)):
        rows += list(measure(model, asked.edge, asked.cloud, asked.links, asked.error))
    columns = ("model", "link", *(codecs or "none" for codecs in CODECS))
    columns += ("none/all", "bytes none", "all", "action's error", "codecs")
    title = f"Milliseconds per control step, {asked.edge} and {asked.cloud}"
    Console(width=170, highlight=False).print(table(title, columns, rows, left=2))


def measure(
    model: str, edge: str, cloud: str, links: Sequence[str], error: float
) -> Iterator[tuple[str, ...]]:
    """The rows of a model, which is traced and annotated once."""
    program = load_program(model, {})
    most = None if not_runnable(program) else error
    targets = [
        Target(edge, cloud, link, codecs=codecs, max_action_error=most if codecs else None)
        for link in links
        for codecs in CODECS
    ]
    first = parse_pipeline(pipeline_for(targets[0])).passes
    Pipeline(first[: [one.name for one in first].index("partition")]).run(program)
    for link in links:
        found = [plan(program, one) for one in targets if one.link == link]
        prices = [price for price, _, _ in found]
        _, measured, codecs = found[-1]
        yield (
            model,
            link,
            *(milliseconds(price.total_s) for price in prices),
            f"{prices[0].total_s / prices[-1].total_s:.2f}",
            *(size(price.bytes_up + price.bytes_down) for price in (prices[0], prices[-1])),
            "-" if measured is None else f"{measured:.2g}",
            codecs,
        )


def plan(program: Program, target: Target) -> tuple[Price, float | None, str]:
    """The price of the optimal cut, the error of the action, and how often it has which codec."""
    OFFERS.put(program, {})
    passes = parse_pipeline(pipeline_for(target)).passes
    kept = [one for one in passes if one.name in ("annotate-codecs", "partition")]
    Pipeline(tuple(kept)).run(program)
    cut = CUTS.get(program).chosen
    names = [crossing.codec for crossing in cut.crossings]
    counts = (f"{names.count(codec)} {codec}" for codec in Codec if codec in names)
    return cut.price, cut.error.measured, ", ".join(counts)


if __name__ == "__main__":
    main()
