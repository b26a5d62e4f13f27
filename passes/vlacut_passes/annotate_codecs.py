"""annotate-codecs: which codecs every value could cross the link with, and what each costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vlacut.hardware import Device, load_device
from vlacut.ir.annotation import EXAMPLE, OFFERS
from vlacut.ir.dataflow import trace_dataflow
from vlacut.ir.program import Program
from vlacut.pricing import codec_cost, picture_cost
from vlacut.pricing.coding import Offer
from vlacut.pricing.cost_graph import When
from vlacut.runtime.wire.codecs import coder_of
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec, Coding, coded_bytes, parse_codecs, takes


@dataclass(frozen=True)
class AnnotateCodecs:
    """Writes OFFERS on the program: for every value that could cross, the codecs that take it and
    make it smaller, with their bytes and seconds (`vlacut.pricing.codec_cost`).

    Pictures are coded where they are observed, on their way up. Their bytes are those of the
    example's pictures; without an example, or if it shows nothing, those of photographs.

    Attributes:
        edge, cloud: names of devices, or TOML files.
        codecs: which, e.g. `fp16,jpeg90`, or `all`.

    Raises HardwareError for an unknown device, InputError for an unknown codec, or one of pictures
    that is not installed where there are pictures.
    """

    name: ClassVar[str] = "annotate-codecs"
    edge: str = "jetson-agx-orin"
    cloud: str = "a100"
    codecs: str = "all"

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        edge, cloud = load_device(self.edge), load_device(self.cloud)
        codecs = parse_codecs(self.codecs)
        of_numbers = [codec for codec in codecs if not codec.varies]
        of_pictures = [codec for codec in codecs if codec.varies]
        offers: dict[str, Offer] = {}
        dataflow = trace_dataflow(program)
        # State goes as it is: what is lost of it would add up, step after step.
        left = {use.key for use in dataflow.uses if use.when in (When.NEXT, When.RESET)}
        for key, spec in dataflow.specs.items():
            up = () if key in left else tuple(_of_numbers(of_numbers, spec, edge, cloud))
            if up:
                # Down, the cloud encodes and the edge decodes.
                there = _of_numbers(of_numbers, spec, cloud, edge)
                down = (Coding(one.codec, one.nbytes, one.cloud_s, one.edge_s) for one in there)
                offers[key] = Offer(up, tuple(down))
        shown = EXAMPLE.find(program) or {}
        for spec in program.inputs:
            found = tuple(_of_pictures(of_pictures, spec, shown.get(spec.name), edge, cloud))
            if found:
                offers[spec.name] = Offer(found, ())
        OFFERS.put(program, offers)


def _of_numbers(
    codecs: list[Codec], spec: TensorSpec, source: Device, target: Device
) -> Iterator[Coding]:
    """As if the source were the edge."""
    for codec in codecs:
        if takes(codec, spec) and (nbytes := coded_bytes(codec, spec)) < spec.nbytes:
            encode_s = codec_cost.encode_s(codec, spec, source)
            yield Coding(codec, nbytes, encode_s, codec_cost.decode_s(codec, spec, target))


def _of_pictures(
    codecs: list[Codec], spec: TensorSpec, shown: np.ndarray | None, edge: Device, cloud: Device
) -> Iterator[Coding]:
    for codec in codecs:
        if not takes(codec, spec):
            continue
        if shown is None or shown.min() == shown.max():
            nbytes = picture_cost.usual_bytes(codec, spec)
        else:
            coder = coder_of(codec, spec)
            nbytes = coder.encode(np.ascontiguousarray(shown), np.empty(coder.nbytes, np.uint8))
        if nbytes < spec.nbytes:
            encode_s = picture_cost.encode_s(codec, spec, nbytes, edge)
            yield Coding(codec, nbytes, encode_s, picture_cost.decode_s(codec, spec, nbytes, cloud))
