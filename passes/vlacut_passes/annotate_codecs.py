"""annotate-codecs: which codecs every value could cross the link with, and what each costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vlacut.hardware import Device, load_device
from vlacut.ir.annotation import OFFERS
from vlacut.ir.dataflow import trace_dataflow
from vlacut.ir.program import Program
from vlacut.pricing.codec_cost import decode_s, encode_s
from vlacut.pricing.coding import Offer
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Coding, coded_bytes, parse_codecs, takes


@dataclass(frozen=True)
class AnnotateCodecs:
    """Writes OFFERS on the program: for every value that could cross, the codecs that take it and
    make it smaller, with their bytes and seconds (`vlacut.pricing.codec_cost`).

    Attributes:
        edge, cloud: names of devices, or TOML files.
        codecs: which, e.g. `fp16,int8`, or `all`.

    Raises HardwareError for an unknown device, InputError for an unknown codec.
    """

    name: ClassVar[str] = "annotate-codecs"
    edge: str = "jetson-agx-orin"
    cloud: str = "a100"
    codecs: str = "all"

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        edge, cloud = load_device(self.edge), load_device(self.cloud)
        offers: dict[str, Offer] = {}
        for key, spec in trace_dataflow(program).specs.items():
            up = self._codings(spec, edge, cloud)
            if up:
                # Down, the cloud encodes and the edge decodes.
                there = self._codings(spec, cloud, edge)
                down = (Coding(one.codec, one.nbytes, one.cloud_s, one.edge_s) for one in there)
                offers[key] = Offer(up, tuple(down))
        OFFERS.put(program, offers)

    def _codings(self, spec: TensorSpec, source: Device, target: Device) -> tuple[Coding, ...]:
        """As if the source were the edge."""
        return tuple(
            Coding(
                codec,
                coded_bytes(codec, spec),
                encode_s(codec, spec, source),
                decode_s(codec, spec, target),
            )
            for codec in parse_codecs(self.codecs)
            if takes(codec, spec) and coded_bytes(codec, spec) < spec.nbytes
        )
